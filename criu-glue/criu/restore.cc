// A restore runs in the calling process: the restored pid 1 becomes its child (CRIU clones it with
// CLONE_PARENT, as libcriu's restore_child asks it to).
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <optional>
#include <sstream>

#include "common/process.h"
#include "criu-glue/criu/options.h"

namespace stillpoint::criu {

namespace {

constexpr const char* kLog = "restore.log";

// libcriu gives its callback nothing of ours, so the call under way is kept here; there is one at a
// time.
struct Call {
  const RestoreRequest* request;
  std::vector<pid_t> before;  // children that have nothing to do with it
  pid_t init = 0;             // told with "post-restore" alone
  std::optional<QuietStderr>* quiet;
  std::optional<Error> refused;
};
Call* call_under_way = nullptr;

std::vector<pid_t> children() {
  std::vector<pid_t> all;
  if (auto text = read_file("/proc/thread-self/children")) {
    std::istringstream numbers(*text);
    for (pid_t pid; numbers >> pid;) all.push_back(pid);
  }
  return all;
}

std::vector<pid_t> new_children(const Call& call) {
  std::vector<pid_t> found = children();
  std::erase_if(found, [&](pid_t pid) {
    return std::find(call.before.begin(), call.before.end(), pid) != call.before.end();
  });
  return found;
}

// What a failed restore left as our child, dead or alive.
void reap_new_children(const Call& call) {
  for (const pid_t pid : new_children(call))
    if (auto child = Child::adopt(pid)) child->kill();
}

// CRIU goes on whatever "pre-resume" answers, so a refusal ends the processes here: pid 1, and all
// others with it. CRIU is ended too: it would wait for pid 1, which waits for those that CRIU still
// traces.
int refuse_or_go_on(Call& call) {
  call.quiet->reset();  // what the hook says is to be seen
  auto r = call.request->before_resume(call.init);
  call.quiet->emplace();
  if (r) return 0;
  call.refused = r.error();
  if (call.init > 0) ::kill(call.init, SIGKILL);
  for (const pid_t pid : new_children(call)) ::kill(pid, SIGKILL);
  return -1;
}

extern "C" int notified(char* action, criu_notify_arg_t about) noexcept {
  Call* call = call_under_way;
  if (!call) return -1;
  if (std::strcmp(action, "post-restore") == 0) call->init = criu_notify_pid(about);
  const bool asked = std::strcmp(action, "pre-resume") == 0 && call->request->before_resume;
  return asked ? refuse_or_go_on(*call) : 0;
}

class BlockedSigchld {
 public:
  BlockedSigchld() {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGCHLD);
    ::sigprocmask(SIG_BLOCK, &set, &saved_);
  }
  ~BlockedSigchld() { ::sigprocmask(SIG_SETMASK, &saved_, nullptr); }
  BlockedSigchld(const BlockedSigchld&) = delete;
  BlockedSigchld& operator=(const BlockedSigchld&) = delete;

 private:
  sigset_t saved_{};
};

Result<> add_restore_options(criu_opts* options, const RestoreRequest& request, const Fd& network) {
  criu_local_set_notify_cb(options, notified);
  bool good = criu_local_set_root(options, request.root.c_str()) == 0;
  if (network)
    good =
        good && criu_local_add_inherit_fd(options, network.get(), request.network_key.c_str()) == 0;
  for (const ExternalMount& mount : request.mounts) {
    const std::string external = "mnt[" + mount.destination + "]:" + mount.destination;
    good = good && criu_local_add_external(options, external.c_str()) == 0;
  }
  if (!good) return fail(ErrorKind::kSystem, "out of memory for CRIU's options");
  return {};
}

int call_libcriu(criu_opts* options, Call& call) {
  const BlockedSigchld blocked;
  std::optional<QuietStderr> quiet(std::in_place);
  call.quiet = &quiet;
  call_under_way = &call;
  const int pid = criu_local_restore_child(options);
  call_under_way = nullptr;
  return pid;
}

}  // namespace

Result<pid_t> restore_here(const std::string& binary, const RestoreRequest& request) {
  if (call_under_way) return fail(ErrorKind::kInternal, "a restore within a restore");
  auto images = open_file(request.images, O_RDONLY | O_DIRECTORY);
  if (!images) return fail(images.error());
  auto options = make_image_options(binary, *images, kLog);
  if (!options) return fail(options.error());
  // Without close-on-exec, for CRIU.
  const Fd network(request.network >= 0 ? ::fcntl(request.network, F_DUPFD, 64) : -1);
  if (request.network >= 0 && !network) return fail_errno("the container's network namespace");
  if (auto r = add_restore_options(options->get(), request, network); !r) return fail(r.error());

  Call call{.request = &request, .before = children(), .init = 0, .quiet = nullptr, .refused = {}};
  const int pid = call_libcriu(options->get(), call);
  if (pid > 0 && !call.refused) return static_cast<pid_t>(pid);
  reap_new_children(call);
  if (call.refused) return fail(*call.refused);
  return fail(explain_failure("restore", request.images, kLog, pid));
}

}  // namespace stillpoint::criu
