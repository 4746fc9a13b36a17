#include "launcher/daemon/node_query.h"

#include <time.h>
#include <unistd.h>

#include "criu-glue/criu/fitness.h"
#include "launcher/agent/launch.h"
#include "launcher/agent/node_facts.h"
#include "launcher/agent/registry.h"

namespace stillpoint::daemon {

namespace {

// What does not depend on the caller, and takes a while.
peer::NodeReply look_at_node() {
  peer::NodeReply node;
  node.set_stillpoint(STILLPOINT_VERSION);
  node.set_kernel(agent::kernel_release());
  auto items = criu::examine();
  if (const auto program = agent::supervisor_program(); !program)
    items.push_back({"supervisor", false, program.error().what(), "install stillpoint again"});
  for (const auto& item : items) {
    if (item.name == "CRIU" && item.ok) node.set_criu(item.found);
    if (item.ok) continue;
    auto& unfit = *node.add_unfit();
    unfit.set_name(item.name);
    unfit.set_found(item.found);
    unfit.set_remedy(item.remedy);
  }
  return node;
}

void add_what_passes(peer::NodeReply& node, uid_t caller) {
  char host[256] = {};
  (void)::gethostname(host, sizeof host - 1);
  node.set_host(host);
  timespec up{};
  ::clock_gettime(CLOCK_BOOTTIME, &up);
  node.set_uptime(static_cast<uint64_t>(up.tv_sec));
  for (const std::string& job : agent::jobs_here())
    if (caller == 0 || agent::owner_of(job) == caller) node.add_jobs(job);
}

}  // namespace

Task<Result<peer::NodeReply>> NodeQuery::answer(uid_t caller, Deadline deadline) {
  while (!free_.is_set())
    if (!co_await free_.wait(deadline))
      co_return fail(ErrorKind::kBusy, "the node is being looked at for too many others");
  peer::NodeReply node;
  if (known_ && Deadline::Clock::now() - looked_ < kFresh) {
    node = *known_;
  } else {
    free_.reset();
    auto worker = Worker::start("looking at the node", nullptr, [](Progress&) {
      return Result<std::string>(look_at_node().SerializeAsString());
    });
    auto bytes = worker ? co_await finish(std::move(*worker), deadline)
                        : Result<std::string>(fail(worker.error()));
    free_.set();
    if (!bytes) co_return fail(bytes.error());
    if (!node.ParseFromString(*bytes))
      co_return fail(ErrorKind::kInternal, "looking at the node gave nonsense");
    known_ = node;
    looked_ = Deadline::Clock::now();
  }
  add_what_passes(node, caller);
  co_return node;
}

}  // namespace stillpoint::daemon
