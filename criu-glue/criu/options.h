// What every request to CRIU has in common, and the two that make use of it.
#pragma once

#include <criu/criu.h>

#include <memory>
#include <string>
#include <vector>

#include "common/fd.h"
#include "criu-glue/criu/criu.h"

namespace stillpoint::criu {

struct OptionsDeleter {
  void operator()(criu_opts* options) const { criu_local_free_opts(options); }
};
using Options = std::unique_ptr<criu_opts, OptionsDeleter>;

Result<Options> make_options(const std::string& binary);
// The same with what a dump and its restore must agree on.  `images` must stay open while the
// options are used.
Result<Options> make_image_options(const std::string& binary, const Fd& images, const char* log);

// kUnfit if CRIU cannot be told of one of them.
Result<> check_mounts(const std::vector<ExternalMount>& mounts);

// The errors in a log that CRIU wrote, explained; `code` is what libcriu returned.
Error explain_failure(const char* doing, const std::string& images, const char* log, int code);

Result<> dump_in_session(const std::string& binary, const DumpRequest& request);
Result<pid_t> restore_here(const std::string& binary, const RestoreRequest& request);

// libcriu prints to standard error.  While this lives, that goes nowhere.
class QuietStderr {
 public:
  QuietStderr();
  ~QuietStderr();
  QuietStderr(const QuietStderr&) = delete;
  QuietStderr& operator=(const QuietStderr&) = delete;

 private:
  Fd saved_;
};

}  // namespace stillpoint::criu
