// Errors as values.  One type for the whole project: a kind (it decides the exit status), one line
// that says what failed, where and why, and, where we know it, what to do about it.
//
//   if (auto r = write_all(fd, bytes); !r) return fail(r.error().during("writing the rank map"));
#pragma once

#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace stillpoint {

// The numbers are exit statuses (those of sysexits.h); they are part of the command line's
// contract.
enum class ErrorKind : int {
  kUsage = 64,       // an option or argument is wrong
  kDamaged = 65,     // a checkpoint is damaged, of another format, or not genuine
  kNotFound = 66,    // a file, a checkpoint, a job
  kUnfit = 69,       // kernel, CRIU, CPU or libraries cannot do this
  kInternal = 70,    // a bug of ours
  kSystem = 71,      // a system call failed
  kNoSpace = 73,     // a file system is full
  kIo = 74,          // reading or writing failed
  kBusy = 75,        // in use; the same call may work later
  kProtocol = 76,    // a peer talks nonsense or another version
  kPermission = 77,  // not yours
  kTimeout = 124,    // a bounded wait ended
  kNotExecutable = 126,
  kNoSuchProgram = 127,
};

class Error {
 public:
  Error(ErrorKind kind, std::string what, std::string remedy = {})
      : kind_(kind), what_(std::move(what)), remedy_(std::move(remedy)) {}

  ErrorKind kind() const { return kind_; }
  int exit_status() const { return static_cast<int>(kind_); }
  const std::string& what() const { return what_; }
  const std::string& remedy() const { return remedy_; }

  // The same error with its context in front: "<doing>: <what>".
  Error during(std::string_view doing) const;
  // The same error with advice, unless it has some already.
  Error advise(std::string_view remedy) const;
  // One line for people: "<what>" or "<what>; <remedy>".  Control characters are replaced.
  std::string line() const;

 private:
  ErrorKind kind_;
  std::string what_;
  std::string remedy_;
};

template <typename T = void>
using Result = std::expected<T, Error>;

inline std::unexpected<Error> fail(Error error) {
  return std::unexpected<Error>(std::move(error));
}
inline std::unexpected<Error> fail(ErrorKind kind, std::string what, std::string remedy = {}) {
  return std::unexpected<Error>(Error(kind, std::move(what), std::move(remedy)));
}

// errno made into an error: "<what>: <strerror>".  The kind follows from the number (ENOENT:
// kNotFound, ENOSPC/EDQUOT: kNoSpace, EACCES/EPERM/EROFS: kPermission, EIO and others of files:
// kIo, ETIMEDOUT: kTimeout, else kSystem).  The only place where errno becomes text.
Error system_error(std::string_view what, int error_number);
std::unexpected<Error> fail_errno(std::string_view what);  // with the current errno

}  // namespace stillpoint
