#include "criu-glue/criu/criu.h"

#include <sys/utsname.h>

#include <cstdio>
#include <optional>

#include "criu-glue/criu/options.h"

namespace stillpoint::criu {

namespace {

constexpr Version kLeast{4, 0, 0};
constexpr Version kLeastForSockets{
    4, 2, 0};  // kernels from 6.16 on: SO_PASSCRED is refused on inet sockets

bool kernel_is_at_least(int major, int minor) {
  struct utsname name{};
  int a = 0, b = 0;
  if (::uname(&name) != 0 || std::sscanf(name.release, "%d.%d", &a, &b) != 2) return false;
  return a > major || (a == major && b >= minor);
}

class LibCriu final : public Criu {
 public:
  explicit LibCriu(std::string binary) : binary_(std::move(binary)) {}

  Result<Version> version() override {
    if (version_) return *version_;
    auto found = ask_version();
    if (found) version_ = *found;
    return found;
  }

  Result<> dump(const DumpRequest& request) override {
    if (auto r = fit(request.mounts); !r) return r;
    return dump_in_session(binary_, request);
  }

  Result<pid_t> restore(const RestoreRequest& request) override {
    if (auto r = fit(request.mounts); !r) return fail(r.error());
    return restore_here(binary_, request);
  }

 private:
  Result<> fit(const std::vector<ExternalMount>& mounts) {
    if (auto v = version(); !v) return fail(v.error());
    return check_mounts(mounts);
  }

  Result<Version> ask_version() const {
    auto options = make_options(binary_);
    if (!options) return fail(options.error());
    const QuietStderr quiet;
    const int number = criu_local_get_version(options->get());
    if (number <= 0)
      return fail(ErrorKind::kUnfit,
                  "CRIU does not answer: '" + binary_ + "' could not be run as root",
                  "install CRIU " + kLeast.text() + " or later");
    const Version version{number / 10000, number / 100 % 100, number % 100};
    if (version < kLeast)
      return fail(ErrorKind::kUnfit, "CRIU " + version.text() + " is too old",
                  "install " + kLeast.text() + " or later");
    if (version < kLeastForSockets && kernel_is_at_least(6, 16))
      return fail(ErrorKind::kUnfit,
                  "CRIU " + version.text() +
                      " cannot dump sockets on this kernel (6.16 and later refuse SO_PASSCRED "
                      "on inet sockets)",
                  "install CRIU " + kLeastForSockets.text() + " or later");
    return version;
  }

  std::string binary_;
  std::optional<Version> version_;
};

}  // namespace

std::string Version::text() const {
  return std::to_string(major) + "." + std::to_string(minor) +
         (sublevel ? "." + std::to_string(sublevel) : "");
}

std::unique_ptr<Criu> make_criu(std::string binary) {
  return std::make_unique<LibCriu>(std::move(binary));
}

}  // namespace stillpoint::criu
