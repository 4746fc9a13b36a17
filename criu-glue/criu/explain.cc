#include "criu-glue/criu/explain.h"

#include <algorithm>
#include <span>
#include <vector>

namespace stillpoint::criu {

namespace {

constexpr size_t kMostLines = 3, kMostLine = 300;

// Errors that CRIU reports and lives with.
constexpr std::string_view kHarmless[] = {"rlimit: Can't setup RLIMIT"};
// What follows from any error and tells nothing.
constexpr std::string_view kConsequences[] = {
    "Dumping FAILED", "Restoring FAILED", "failed with -1", "Killing processes because of failure"};

struct Known {
  std::string_view pattern;   // found in an error line
  std::string_view together;  // and this in the same line, if not empty
  ErrorKind kind;
  std::string_view advice;
};

// In the order of trust: the first that fits any of the error lines is taken, so the special stand
// before the general.
constexpr Known kKnown[] = {
    {"No space left on device", "", ErrorKind::kNoSpace,
     "free some space in the staging directory, or choose another"},
    {"Disk quota exceeded", "", ErrorKind::kNoSpace,
     "the quota of the staging directory is used up"},
    {"Cannot allocate memory", "", ErrorKind::kSystem, "the node is short of memory"},
    {"has bad size", "", ErrorKind::kDamaged,
     "the file has changed since the checkpoint; put it back as it was, or restart from a later "
     "checkpoint"},
    {"has bad mode", "", ErrorKind::kDamaged,
     "the file's permissions have changed since the checkpoint; put them back"},
    {"build-id", "", ErrorKind::kDamaged,
     "a program or library has changed since the checkpoint; restart needs the same installation"},
    {"Can't open file", "No such file", ErrorKind::kNotFound,
     "the job had this file open; put it back, or restart where its file system is mounted"},
    {"Can't open file", "Permission denied", ErrorKind::kPermission,
     "the job's user must be able to open this file"},
    {"Can't create link remap", "", ErrorKind::kUnfit,
     "an open file was deleted under its name but lives on under another; close it before a "
     "checkpoint"},
    {"link-remap", "", ErrorKind::kUnfit,
     "an open file was deleted under its name but lives on under another; close it before a "
     "checkpoint"},
    {"Can't dump ghost file", "", ErrorKind::kUnfit,
     "an open file that was deleted is too large to be kept (4 GiB)"},
    {"io_uring", "", ErrorKind::kUnfit,
     "CRIU cannot dump io_uring; tell the program not to use it"},
    {"send_fds failed (-22)", "", ErrorKind::kUnfit,
     "a descriptor cannot be handed to CRIU, as those of io_uring cannot; tell the program not to "
     "use io_uring"},
    {"In-flight connection", "", ErrorKind::kBusy,
     "a connection was just being made; the next checkpoint will most likely succeed"},
    {"netlink: The socket has data to read", "", ErrorKind::kBusy,
     "a process was just asking the kernel about the network; the next checkpoint will most likely "
     "succeed"},
    {"Can't lookup mount", "", ErrorKind::kUnfit,
     "a file from outside the container was open in it"},
    {"External socket", "", ErrorKind::kUnfit,
     "a socket is connected to a process outside the container; close it"},
    {"external socket", "", ErrorKind::kUnfit,
     "a socket is connected to a process outside the container; close it"},
    {"Unknown socket collected", "", ErrorKind::kUnfit, "CRIU cannot dump this kind of socket"},
    {"nsupported socket", "", ErrorKind::kUnfit, "CRIU cannot dump this kind of socket"},
    {"Can't dump half of", "", ErrorKind::kUnfit,
     "a socket is connected to a process outside the container; close it"},
    {"SO_PASSCRED", "", ErrorKind::kUnfit, "kernels from 6.16 on need CRIU 4.2 or later"},
    {"userfaultfd", "", ErrorKind::kUnfit, "CRIU cannot dump userfaultfd"},
    {"perf_event", "", ErrorKind::kUnfit,
     "CRIU cannot dump performance counters that are open; run without a profiler"},
    {"Can't dump file", "(chr", ErrorKind::kUnfit, "CRIU cannot dump this device; run without it"},
    {"Can't dump file", "", ErrorKind::kUnfit, "CRIU cannot dump this kind of file"},
    {"doesn't have a proper root mount", "", ErrorKind::kUnfit,
     "something was mounted in the container that CRIU does not know"},
    {"traced by", "", ErrorKind::kBusy, "a debugger is attached to the job; detach it"},
    {"Unable to freeze cgroup", "", ErrorKind::kTimeout,
     "a process waits for a disk or a file server"},
    {"Timeout reached", "", ErrorKind::kTimeout, "the processes could not be stopped in time"},
    {"xsave size mismatch", "", ErrorKind::kUnfit, "restart on the same kind of processor"},
    {"CPU", "not supported", ErrorKind::kUnfit, "restart on the same kind of processor"},
    {"xfeatures has unsupported bits", "", ErrorKind::kUnfit,
     "restart on the same kind of processor"},
    {"FPU", "", ErrorKind::kUnfit, "restart on the same kind of processor"},
    {"vdso", "", ErrorKind::kUnfit, "this CRIU does not fit this kernel; install a later one"},
    {"Can't fork for", "File exists", ErrorKind::kBusy, "a process number of the job is taken"},
    {"Permission denied", "", ErrorKind::kPermission,
     "CRIU lacks a privilege: run as root, see `stillpoint check`"},
    {"Operation not permitted", "", ErrorKind::kPermission,
     "CRIU lacks a privilege: run as root, see `stillpoint check`"},
};

// "(00.012345)     12: Error (criu/files-reg.c:2175): File x has bad size" without what stands
// before the text.
std::string text_of(std::string_view line) {
  const size_t error = line.find("Error (");
  const size_t colon = line.find("): ", error);
  std::string text(line.substr(colon == line.npos ? error : colon + 3));
  if (text.size() > kMostLine) text = text.substr(0, kMostLine) + "...";
  while (!text.empty() && (text.back() == ' ' || text.back() == '.')) text.pop_back();
  return text;
}

bool holds_any(std::string_view line, std::span<const std::string_view> patterns) {
  return std::any_of(patterns.begin(), patterns.end(),
                     [&](auto p) { return line.find(p) != line.npos; });
}

// The errors, each once; those that only follow from others are left out, unless there is nothing
// else.
std::vector<std::string> errors_in(std::string_view log) {
  std::vector<std::string> errors, consequences;
  while (!log.empty()) {
    const size_t end = std::min(log.find('\n'), log.size());
    const std::string_view line = log.substr(0, end);
    log.remove_prefix(std::min(end + 1, log.size()));
    if (line.find("Error (") == line.npos) continue;
    std::string text = text_of(line);
    auto& list = holds_any(line, kConsequences) ? consequences : errors;
    if (!holds_any(line, kHarmless) && std::find(list.begin(), list.end(), text) == list.end())
      list.push_back(std::move(text));
  }
  return errors.empty() ? consequences : errors;
}

const Known* find_known(const std::vector<std::string>& errors) {
  for (const Known& known : kKnown)
    for (const std::string& line : errors)
      if (line.find(known.pattern) != line.npos && line.find(known.together) != line.npos)
        return &known;
  return nullptr;
}

}  // namespace

Error explain(std::string_view doing, std::string_view log) {
  const auto errors = errors_in(log);
  std::string what = "CRIU's " + std::string(doing) + " failed";
  if (errors.empty()) return Error(ErrorKind::kSystem, what + " and its log does not say why");
  for (size_t i = 0; i < std::min(errors.size(), kMostLines); i++)
    what += (i ? "; then: " : ": ") + errors[i];
  const Known* known = find_known(errors);
  if (!known) return Error(ErrorKind::kSystem, std::move(what));
  return Error(known->kind, std::move(what), std::string(known->advice));
}

}  // namespace stillpoint::criu
