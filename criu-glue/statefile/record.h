// What a checkpoint knows about itself.  This is what the manifest holds (as JSON, names as here)
// and what `stillpoint inspect` shows; everything a restart does follows from it, so it is signed.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "common/error.h"

namespace stillpoint::statefile {

using Digest = std::array<uint8_t, 32>;  // BLAKE3
std::string to_hex(const Digest& digest);
Result<Digest> digest_from_hex(std::string_view hex);

// Whether a file of CRIU's may have this name in a statefile: printable ASCII without '/', not "."
// or "..".
bool is_image_name(std::string_view name);

// One of CRIU's image files.
struct ImageRecord {
  std::string name;   // "pages-1.img"; no '/'
  uint64_t size = 0;  // bytes, uncompressed
  Digest digest{};    // over the digests of its chunks (share/doc/statefile.md)
};

struct RankRecord {
  uint32_t rank = 0;
  int32_t pid = 0;  // inside the container
  std::string program;
  uint64_t memory = 0;  // resident bytes at the dump
};

// A regular file that a process of the container had open or mapped.
struct FileRecord {
  std::string path;  // inside the container
  uint64_t size = 0;
  bool writable = false;  // open for writing: rolled back to `size` on restart
};

// A mount of the node that is shown in the container at the same place.
struct MountRecord {
  std::string destination;  // "/home"; "/" is not listed
  std::string type;         // "ext4", "nfs4": for messages
};

// On the container's TCP connections to others when its network was locked: sent and not
// acknowledged; it is in the dump of its sender.
struct InFlightRecord {
  uint64_t connections = 0, bytes = 0;
  uint64_t closed_windows = 0;  // not among these: the peer reads nothing
};

struct ContainerRecord {
  uint32_t index = 0;
  std::string hostname;
  std::string network_key;  // CRIU's name for the container's network namespace
  std::string statefile;    // "c0.h5"
  uint64_t statefile_size = 0;
  Digest statefile_digest{};  // BLAKE3 of the whole file
  std::vector<ImageRecord> images;
  std::vector<RankRecord> ranks;
  std::vector<FileRecord> files;
  std::vector<MountRecord> mounts;
  InFlightRecord in_flight;
};

// What the dumped processes may use of the processor: a restart needs all of `flags`.
struct CpuRecord {
  std::string model;
  std::vector<std::string> flags;  // sorted
};

struct PhaseTimes {  // milliseconds
  uint64_t freeze = 0, dump = 0, thaw = 0, pack = 0, verify = 0;
};

struct Manifest {
  std::string job;
  uint32_t step = 0;
  std::string run;  // drawn at the job's first start, kept by restarts: tells namesakes apart
  uint64_t epoch = 0;
  std::string created;  // UTC
  uint32_t uid = 0;
  std::string user;
  std::vector<std::string> argv;
  std::string directory;  // working directory
  uint32_t ranks = 0;
  uint64_t interval_ms = 0;  // 0: no periodic checkpoints
  uint32_t keep = 0;
  uint64_t restarted_from = 0;  // epoch this run of the job came from, 0: started afresh
  uint64_t stdout_bytes = 0, stderr_bytes = 0;  // written out before the checkpoint
  bool tag_output = false;
  std::string stillpoint_version, criu_version, kernel, machine, pmix_version;
  CpuRecord cpu;
  PhaseTimes times;
  std::vector<ContainerRecord> containers;
};

// The JSON text, stable for equal content; and back, with every field checked for type and bounds
// (names without '/', sizes sane, at most 4096 containers, images and files of one container at
// most 65536): kDamaged otherwise.
std::string to_json(const Manifest& manifest);
Result<Manifest> manifest_from_json(std::string_view text);
// Of a job that has no checkpoint yet, or not this one: without containers, whatever they are.
Result<Manifest> facts_from_json(std::string_view text);
// One container's record alone, as it comes from the packer's process.
std::string to_json(const ContainerRecord& container);
Result<ContainerRecord> container_from_json(std::string_view text);

}  // namespace stillpoint::statefile
