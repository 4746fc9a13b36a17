#include "launcher/agent/step_worker.h"

#include <csignal>

namespace stillpoint::agent {

Task<Result<std::string>> StepWorker::await(Worker worker, Deadline deadline,
                                            std::function<void(WorkDone)> on_progress) {
  worker_ = worker.pid();
  auto result = co_await finish(std::move(worker), deadline, std::move(on_progress));
  worker_ = 0;
  if (!result && called_off_) co_return fail(ErrorKind::kNotFound, "it was called off");
  co_return result;
}

void StepWorker::call_off() {
  called_off_ = true;
  if (worker_ > 0) ::kill(-worker_, SIGKILL);
}

}  // namespace stillpoint::agent
