# What the build needs.  Everything is looked for before the build stops, and what is missing is named
# together with the Debian package that holds it.
find_package(PkgConfig REQUIRED)
set(stillpoint_missing "")

function(stillpoint_need found what package)
  if(NOT ${found})
    set(stillpoint_missing "${stillpoint_missing}\n  ${what}: install ${package}" PARENT_SCOPE)
  endif()
endfunction()

# stillpoint_pkg(target module what package): an imported target PkgConfig::<target>
macro(stillpoint_pkg target module what package)
  pkg_check_modules(${target} QUIET IMPORTED_TARGET ${module})
  stillpoint_need(${target}_FOUND "${what}" "${package}")
endmacro()

find_package(Threads REQUIRED)
find_package(Boost 1.74 QUIET COMPONENTS program_options)
stillpoint_need(Boost_FOUND "Boost 1.74 (Asio, Program_options)" "libboost-dev libboost-program-options-dev")
find_package(Protobuf QUIET)
stillpoint_need(Protobuf_FOUND "Protobuf" "libprotobuf-dev protobuf-compiler")
find_package(HDF5 QUIET COMPONENTS C)
stillpoint_need(HDF5_FOUND "HDF5" "libhdf5-dev")
find_package(ZLIB QUIET)
stillpoint_need(ZLIB_FOUND "zlib" "zlib1g-dev")
find_package(spdlog QUIET)
stillpoint_need(spdlog_FOUND "spdlog" "libspdlog-dev")
find_package(nlohmann_json QUIET)
stillpoint_need(nlohmann_json_FOUND "nlohmann-json" "nlohmann-json3-dev")
find_package(MPI QUIET COMPONENTS C)
stillpoint_need(MPI_C_FOUND "Open MPI" "libopenmpi-dev openmpi-bin")
stillpoint_pkg(libnl libnl-route-3.0 "libnl-route" "libnl-route-3-dev")
stillpoint_pkg(libnl_idiag libnl-idiag-3.0 "libnl-idiag" "libnl-idiag-3-dev")
stillpoint_pkg(libnftables libnftables "libnftables" "libnftables-dev")
stillpoint_pkg(zstd libzstd "zstd" "libzstd-dev")
stillpoint_pkg(blake3 libblake3 "BLAKE3" "libblake3-dev")

# Packages without a usable description of their own.
find_path(CRIU_INCLUDE_DIR criu/criu.h)
find_library(CRIU_LIBRARY criu)
if(CRIU_INCLUDE_DIR AND CRIU_LIBRARY)
  set(CRIU_FOUND TRUE)
  add_library(stillpoint::libcriu INTERFACE IMPORTED)
  target_include_directories(stillpoint::libcriu INTERFACE ${CRIU_INCLUDE_DIR})
  target_link_libraries(stillpoint::libcriu INTERFACE ${CRIU_LIBRARY})
endif()
stillpoint_need(CRIU_FOUND "libcriu" "libcriu-dev (4.2 or later)")

find_path(PMIX_INCLUDE_DIR pmix_server.h PATH_SUFFIXES pmix2/include
          PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE} /usr/lib/x86_64-linux-gnu)
find_library(PMIX_LIBRARY pmix PATH_SUFFIXES pmix2/lib
             PATHS /usr/lib/${CMAKE_LIBRARY_ARCHITECTURE} /usr/lib/x86_64-linux-gnu)
if(PMIX_INCLUDE_DIR AND PMIX_LIBRARY)
  set(PMIX_FOUND TRUE)
  add_library(stillpoint::pmix INTERFACE IMPORTED)
  target_include_directories(stillpoint::pmix SYSTEM INTERFACE ${PMIX_INCLUDE_DIR})
  target_link_libraries(stillpoint::pmix INTERFACE ${PMIX_LIBRARY})
endif()
stillpoint_need(PMIX_FOUND "PMIx" "libpmix-dev")

if(STILLPOINT_TESTS)
  find_package(GTest QUIET)
  stillpoint_need(GTest_FOUND "GoogleTest" "libgtest-dev libgmock-dev")
endif()

if(stillpoint_missing)
  message(FATAL_ERROR "Missing:${stillpoint_missing}\n"
                      "tests/testbed/make makes a Debian root that holds all of it.")
endif()
