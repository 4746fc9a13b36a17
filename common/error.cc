#include "common/error.h"

#include <cerrno>
#include <system_error>

namespace stillpoint {

namespace {

ErrorKind kind_of(int error_number) {
  switch (error_number) {
    case ENOENT:
    case ENOTDIR:
    case ESRCH:
      return ErrorKind::kNotFound;
    case ENOSPC:
    case EDQUOT:
      return ErrorKind::kNoSpace;
    case EACCES:
    case EPERM:
    case EROFS:
      return ErrorKind::kPermission;
    case EIO:
    case EFBIG:
    case EPIPE:
    case ESTALE:
      return ErrorKind::kIo;
    case EBUSY:
    case EAGAIN:
      return ErrorKind::kBusy;
    case ETIMEDOUT:
      return ErrorKind::kTimeout;
    default:
      return ErrorKind::kSystem;
  }
}

}  // namespace

Error Error::during(std::string_view doing) const {
  return Error(kind_, std::string(doing) + ": " + what_, remedy_);
}

Error Error::advise(std::string_view remedy) const {
  return remedy_.empty() ? Error(kind_, what_, std::string(remedy)) : *this;
}

std::string Error::line() const {
  std::string text = remedy_.empty() ? what_ : what_ + "; " + remedy_;
  for (char& c : text)
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) c = ' ';
  return text;
}

Error system_error(std::string_view what, int error_number) {
  // std::generic_category() is safe with threads, strerror() is not.
  return Error(kind_of(error_number),
               std::string(what) + ": " + std::generic_category().message(error_number));
}

std::unexpected<Error> fail_errno(std::string_view what) {
  const int error_number = errno;
  return fail(system_error(what, error_number));
}

}  // namespace stillpoint
