// The worker that does the present step of a member, and can be called off.
#pragma once

#include <functional>
#include <string>

#include "common/async/event.h"

namespace stillpoint::agent {

class StepWorker {
 public:
  void begin() { called_off_ = false; }  // a new step
  // kNotFound if it was called off.
  Task<Result<std::string>> await(Worker worker, Deadline deadline,
                                  std::function<void(WorkDone)> on_progress = {});
  void call_off();  // ends it, if there is one

 private:
  bool called_off_ = false;
  pid_t worker_ = 0;  // 0: none
};

}  // namespace stillpoint::agent
