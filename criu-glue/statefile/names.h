// Every name and number of the two file formats.  share/doc/statefile.md specifies what they mean;
// the page and this header change together, and a change of meaning raises a version.
#pragma once

#include <cstddef>
#include <cstdint>

namespace stillpoint::statefile::names {

inline constexpr uint32_t kStatefileVersion = 1;
inline constexpr uint32_t kManifestVersion = 1;

// c<index>.h5
inline constexpr const char* kStatefileFormat = "stillpoint statefile";
inline constexpr const char* kImages = "images";        // /images/NAME: 1-D uint8
inline constexpr const char* kChecksums = "checksums";  // /checksums/NAME: chunks x 32 uint8
inline constexpr const char* kRanks = "ranks";
inline constexpr const char* kFiles = "files";
inline constexpr const char* kMounts = "mounts";
inline constexpr size_t kChunk = size_t{1} << 20;  // bytes of an image in one chunk
inline constexpr unsigned kZstdFilter = 32015;     // registered with The HDF Group

// Root attributes of both files, for people.
inline constexpr const char* kFormat = "format";
inline constexpr const char* kFormatVersion = "format_version";

// manifest.h5
inline constexpr const char* kManifestFormat = "stillpoint manifest";
inline constexpr const char* kManifestText = "manifest";  // /manifest: the JSON text
inline constexpr const char* kBlockFormat = "stillpoint manifest ";
inline constexpr const char* kBlockDigest = "digest blake3 ";
inline constexpr const char* kBlockSignature = "signature blake3-keyed ";
inline constexpr size_t kBlock = 512;  // bytes in front of the HDF5 part

// Bounds that every reader holds a file to.
inline constexpr uint64_t kMaxBytes = uint64_t{1} << 50;   // of an image, a statefile, a process
inline constexpr uint64_t kMaxNumber = uint64_t{1} << 53;  // exact in every JSON reader
inline constexpr size_t kMaxManifest = size_t{64} << 20;   // bytes of manifest.h5
inline constexpr size_t kMaxContainers = 4096;
inline constexpr size_t kMaxEntries =
    65536;  // images, files, mounts, ranks of a container; argv; flags
inline constexpr size_t kMaxText = size_t{1}
                                   << 17;  // bytes of one string: Linux's bound for an argument

}  // namespace stillpoint::statefile::names
