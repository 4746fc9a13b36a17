// What we need of HDF5's C interface: handles that close themselves and its errors as ours.  Only
// this module calls HDF5, and only one thread of it at a time.
#pragma once

#include <hdf5.h>

#include <string>
#include <string_view>
#include <utility>

#include "common/error.h"

namespace stillpoint::statefile {

// Owns an identifier of HDF5.
class Id {
 public:
  using Close = herr_t (*)(hid_t);
  Id() = default;
  Id(hid_t id, Close close) : id_(id), close_(close) {}
  Id(Id&& other) noexcept : id_(other.release()), close_(other.close_) {}
  Id& operator=(Id&& other) noexcept {
    if (this != &other) {
      reset();
      close_ = other.close_;
      id_ = other.release();
    }
    return *this;
  }
  Id(const Id&) = delete;
  Id& operator=(const Id&) = delete;
  ~Id() { reset(); }

  hid_t get() const { return id_; }
  explicit operator bool() const { return id_ >= 0; }
  hid_t release() { return std::exchange(id_, H5I_INVALID_HID); }
  // Closes it now: false if that failed.
  bool reset() { return id_ < 0 || close_(release()) >= 0; }

 private:
  hid_t id_ = H5I_INVALID_HID;
  Close close_ = nullptr;
};

// To be called before anything else of HDF5, by each thread: no messages on stderr, no plugins
// loaded, no drivers from the environment.
void prepare_hdf5();

// What HDF5 says was wrong, innermost first, as "<what>: <reason>"; errno decides the kind where
// HDF5 reports one of a file system, else `kind`.  Forgets HDF5's messages.
Error hdf5_error(ErrorKind kind, std::string_view what);

// File access as we need it: a small cache, no locks, everything closed with the file.
Id file_access();

// Attributes of an object, of scalar type; kInternal or the file system's error on failure.
Result<> put_attribute(hid_t object, const char* name, std::string_view text);
Result<> put_attribute(hid_t object, const char* name, uint64_t number);

}  // namespace stillpoint::statefile
