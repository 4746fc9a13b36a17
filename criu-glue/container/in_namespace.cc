#include "criu-glue/container/in_namespace.h"

#include <sched.h>

#include "common/worker.h"

namespace stillpoint::container {

Result<> enter_namespace(int ns) {
  if (::setns(ns, CLONE_NEWNET) != 0) return fail_errno("entering a network namespace");
  return {};
}

Result<std::string> in_namespace(int ns, const std::string& what,
                                 const std::function<Result<std::string>()>& work,
                                 Deadline deadline) {
  auto worker = Worker::start(what, nullptr, [&](Progress&) -> Result<std::string> {
    if (ns != kOwnNamespace)
      if (auto r = enter_namespace(ns); !r) return fail(r.error());
    return work();
  });
  if (!worker) return fail(worker.error().during(what));
  auto result = worker->finish(deadline);
  if (!result) return fail(result.error().during(what));
  return result;
}

}  // namespace stillpoint::container
