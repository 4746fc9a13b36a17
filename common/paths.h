// The one place that builds paths.
//
//   /etc/stillpoint/key                          signs manifests; root's alone
//   /etc/stillpoint/stillpoint.conf              settings of the node (common/config.h)
//   /run/stillpoint/stillpointd.sock, .lock      of the node's daemon
//   /run/stillpoint/jobs/<job>/                  of a running job: control.sock, job.json
//   /run/stillpoint/jobs/<job>@<index>/          of its part on this node, if it is on several
//   /dev/shm/stillpoint/<job>/<epoch>/           staging: CRIU's images, until they are packed
//   DIR/<job>.<step>/                            a job's checkpoints (share/doc/statefile.md)
//     lock                                       held while the job runs
//     latest -> <epoch>
//     <epoch>/manifest.h5, <epoch>/c<index>.h5   ".tentative" behind a name until it is whole
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "common/error.h"

namespace stillpoint::paths {

inline constexpr const char* kSigningKey = "/etc/stillpoint/key";
inline constexpr const char* kConfiguration = "/etc/stillpoint/stillpoint.conf";
inline constexpr const char* kRunDirectory = "/run/stillpoint";
inline constexpr const char* kJobsDirectory = "/run/stillpoint/jobs";
inline constexpr const char* kDaemonSocket = "/run/stillpoint/stillpointd.sock";
inline constexpr const char* kDaemonLock = "/run/stillpoint/stillpointd.lock";
inline constexpr const char* kDefaultStaging = "/dev/shm/stillpoint";
inline constexpr const char* kDefaultCheckpoints =
    "stillpoint-checkpoints";  // below the working directory

// Inside a container: the supervisor listens here, in a directory that only root can write.
inline constexpr const char* kSupervisorDirectory = "/run/stillpoint";
inline constexpr const char* kSupervisorSocket = "/run/stillpoint/supervisor.sock";

inline constexpr const char* kManifest = "manifest.h5";
inline constexpr const char* kLatest = "latest";
inline constexpr const char* kLock = "lock";
inline constexpr const char* kTentative = ".tentative";

// 1 to 64 letters, digits, '.', '_', '-', starting with a letter or digit; kUsage otherwise.
Result<> check_job_name(std::string_view name);

// A part of a job over several nodes, where jobs are listed by name: "<job>@<index>".
std::string part_name(std::string_view job, uint32_t index);
// The job that a listed name belongs to.
std::string job_of(std::string_view name);

std::string job_run_directory(std::string_view job);
std::string control_socket(std::string_view job);
std::string job_note(std::string_view job);

std::string job_directory(std::string_view checkpoints, std::string_view job, uint32_t step);
std::string epoch_directory(std::string_view job_directory, uint64_t epoch);
std::string statefile(uint32_t container);  // "c0.h5"
std::optional<uint64_t> epoch_of(
    std::string_view name);  // the number, if the name is that of an epoch
std::string join(std::string_view directory, std::string_view name);
// Absolute, without "." and "..", symbolic links untouched.
std::string absolute(std::string_view path, std::string_view base);

}  // namespace stillpoint::paths
