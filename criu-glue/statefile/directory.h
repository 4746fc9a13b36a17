// A directory that is open: what is done in it goes by its descriptor and follows no link of its
// entries. Every error names the path.
#pragma once

#include <string>
#include <vector>

#include "common/error.h"
#include "common/fd.h"

namespace stillpoint::statefile {

std::string parent_of(const std::string& path);

class Directory {
 public:
  static Result<Directory> open(const std::string& path);
  Result<Directory> sub(const std::string& name) const;

  int fd() const { return fd_.get(); }
  const std::string& path() const { return path_; }

  Result<std::vector<std::string>> names() const;  // sorted; without "." and ".."
  bool has(const std::string& name) const;         // anything of that name
  bool has_file(const std::string& name) const;    // a regular one
  bool has_directory(const std::string& name) const;

  Result<> remove(const std::string& name) const;            // fine if there is none
  Result<> remove_directory(const std::string& name) const;  // fine if it is not empty: it stays
  Result<> rename(const std::string& from, const std::string& to) const;
  // Whole and on the disk when it returns; what was called so is replaced.  Removed again on
  // failure.
  Result<> write(const std::string& name, const std::string& bytes) const;
  // Makes `name` a symbolic link to `target`, replacing one in one step.
  Result<> link(const std::string& name, const std::string& target) const;
  Result<> sync() const;

 private:
  Directory(std::string path, Fd fd) : path_(std::move(path)), fd_(std::move(fd)) {}
  std::string path_;
  Fd fd_;
};

}  // namespace stillpoint::statefile
