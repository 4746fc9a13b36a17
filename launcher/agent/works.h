// What a member of a job does on its node, step by step (coordinator/protocol.h).  To begin
// (making.h): create, connect, start; of a restart create, connect, unpack, restore, go.  In a
// checkpoint:
//
//   prepare   staging is made and warmed up                                          (job runs)
//   freeze    the supervisor closes its link; the container is frozen; what is open,
//             and what CRIU could not dump                                  (job stands still)
//   drain     wait, bounded, until nothing sent to other containers is unacknowledged
//   lock      what arrives from other containers is dropped
//   dump      CRIU, into staging
//   go        unlock, thaw, link open again                                          (job runs)
//   pack      as the user: staging -> tentative statefile, fsync, read back, sealed
//   finish    staging goes        end    the same, and the container with it
//   abort     unlock, thaw, link open again, staging goes; the tentative epoch is the
//             coordinator's to remove
#pragma once

#include <functional>
#include <memory>
#include <string>

#include "criu-glue/statefile/record.h"
#include "criu-glue/statefile/store.h"
#include "launcher/agent/making.h"
#include "launcher/agent/part.h"
#include "launcher/agent/step_worker.h"
#include "launcher/coordinator/member.h"

namespace stillpoint::agent {

// What `pack` answers: a member's part of the checkpoint.
struct PackedContainer {
  statefile::ContainerRecord record;
  statefile::PhaseTimes times;
  uint64_t image_bytes = 0;
  Milliseconds stood_still{0};  // 0: it still stands
  std::string criu_version;
  std::string created;  // UTC
};
std::string to_text(const PackedContainer& packed);
Result<PackedContainer> packed_from_text(const std::string& text);

class Works {
 public:
  Works(Part& part, OnProgress on_progress);
  ~Works();

  // One at a time; the answer is for the coordinator.  `details`: what came with the command.
  Task<Result<std::string>> perform(coordinator::Work work, std::string details);
  void call_off();  // the work under way is to end soon

 private:
  struct Attempt;
  Task<Result<std::string>> checkpoint(coordinator::Work work);
  Task<Result<>> prepare();
  Task<> warm_staging();
  Task<Result<>> freeze();
  Task<Result<>> drain();
  Task<Result<>> lock();
  Task<Result<>> dump();
  Task<Result<>> go();
  Task<Result<std::string>> pack();
  Task<Result<>> read_back(const statefile::Store& store);
  Task<Result<>> finish();
  Task<Result<>> end();
  Result<> look();
  statefile::Store store() const;

  Part& part_;
  OnProgress on_progress_;
  Making making_;
  std::unique_ptr<Attempt> attempt_;
  StepWorker worker_;
};

}  // namespace stillpoint::agent
