#include "criu-glue/statefile/hdf5.h"

#include <charconv>
#include <cstdlib>
#include <optional>

namespace stillpoint::statefile {

namespace {

constexpr size_t kMetadataCache = 4 << 20;

// With H5E_WALK_UPWARD the first one is the innermost.
herr_t keep_first(unsigned n, const H5E_error2_t* error, void* text) noexcept {
  if (n == 0 && error->desc) *static_cast<std::string*>(text) = error->desc;
  return 0;
}

// "..., errno = 28, ..." in a message of HDF5's file driver.
int errno_in(std::string_view text) {
  constexpr std::string_view kMark = "errno = ";
  const size_t at = text.find(kMark);
  int number = 0;
  if (at != text.npos)
    std::from_chars(text.data() + at + kMark.size(), text.data() + text.size(), number);
  return number;
}

// Takes a variable out of the environment for a moment.
class Hidden {
 public:
  explicit Hidden(const char* name) : name_(name) {
    if (const char* value = std::getenv(name)) value_ = value;
    if (value_) ::unsetenv(name);
  }
  Hidden(const Hidden&) = delete;
  ~Hidden() {
    if (value_) ::setenv(name_, value_->c_str(), 1);
  }

 private:
  const char* name_;
  std::optional<std::string> value_;
};

bool of_file_system(ErrorKind kind) {
  return kind == ErrorKind::kNotFound || kind == ErrorKind::kNoSpace || kind == ErrorKind::kIo ||
         kind == ErrorKind::kPermission;
}

Result<> put(hid_t object, const char* name, const Id& type, hid_t memory_type, const void* value) {
  Id space(H5Screate(H5S_SCALAR), H5Sclose);
  Id attribute(H5Acreate2(object, name, type.get(), space.get(), H5P_DEFAULT, H5P_DEFAULT),
               H5Aclose);
  if (!attribute || H5Awrite(attribute.get(), memory_type, value) < 0)
    return fail(hdf5_error(ErrorKind::kInternal, std::string("attribute ") + name));
  return {};
}

}  // namespace

void prepare_hdf5() {
  // Users set these for their own programs; HDF5 reads them when it starts, for all files.
  const Hidden connector("HDF5_VOL_CONNECTOR"), driver("HDF5_DRIVER");
  H5open();
  H5Eset_auto2(H5E_DEFAULT, nullptr, nullptr);
  H5PLset_loading_state(0);
}

Error hdf5_error(ErrorKind kind, std::string_view what) {
  std::string reason;
  H5Ewalk2(H5E_DEFAULT, H5E_WALK_UPWARD, keep_first, &reason);
  H5Eclear2(H5E_DEFAULT);
  if (const int number = errno_in(reason); number > 0) {
    Error system = system_error(what, number);
    if (of_file_system(system.kind())) return system;
  }
  return Error(kind,
               std::string(what) + ": HDF5: " + (reason.empty() ? "no reason given" : reason));
}

Id file_access() {
  Id access(H5Pcreate(H5P_FILE_ACCESS), H5Pclose);
  H5Pset_fapl_sec2(access.get());
  H5AC_cache_config_t cache{};
  cache.version = H5AC__CURR_CACHE_CONFIG_VERSION;
  if (H5Pget_mdc_config(access.get(), &cache) >= 0) {
    cache.max_size = kMetadataCache;
    H5Pset_mdc_config(access.get(), &cache);
  }
  H5Pset_fclose_degree(access.get(), H5F_CLOSE_STRONG);
  H5Pset_file_locking(access.get(), false, true);  // some parallel file systems know no flock
  return access;
}

Result<> put_attribute(hid_t object, const char* name, std::string_view text) {
  const std::string padded = text.empty() ? std::string(1, '\0') : std::string(text);
  Id type(H5Tcopy(H5T_C_S1), H5Tclose);
  H5Tset_size(type.get(), padded.size());
  H5Tset_strpad(type.get(), H5T_STR_NULLPAD);
  H5Tset_cset(type.get(), H5T_CSET_UTF8);
  return put(object, name, type, type.get(), padded.data());
}

Result<> put_attribute(hid_t object, const char* name, uint64_t number) {
  Id type(H5Tcopy(H5T_STD_U64LE), H5Tclose);
  return put(object, name, type, H5T_NATIVE_UINT64, &number);
}

}  // namespace stillpoint::statefile
