// Everything is read through /proc/PID, whose processes belong to the job: a name or a line there
// may be anything, and a process may be gone.  Paths are as the container shows them: the kernel
// ends them at the root of the mount namespace that a file is of.
#include "criu-glue/criu/survey.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <map>
#include <memory>
#include <set>
#include <sstream>

#include "common/fd.h"
#include "criu-glue/container/mounts.h"

namespace stillpoint::criu {

namespace {

struct MountPoint {
  std::string point, type;
  dev_t device = 0;
};

struct Process {
  std::string proc;   // "/proc/123"
  std::string label;  // "process 12 (a.out)": the number inside the container
  Fd pidfd;
};

class Surveyor {
 public:
  Result<> read_container(pid_t init);
  Result<> look_at(pid_t pid);
  Survey take();

 private:
  void look_at_descriptors(const Process& process);
  void look_at_descriptor(const Process& process, const std::string& number);
  void look_at_socket(const Process& process, int number);
  void look_at_watches(const Process& process, const std::string& fdinfo);
  Result<> look_at_mappings(const Process& process);
  void look_at_mapping(const Process& process, const std::string& line);
  void add_file(const Process& process, const std::string& path, const struct stat& about,
                bool writable);
  void obstacle(const Process& process, const std::string& what) {
    obstacles_.insert(process.label + " " + what);
  }

  std::string pid_namespace_;
  std::map<int, MountPoint> mounts_;
  std::map<std::string, statefile::FileRecord> files_;
  std::set<std::string> obstacles_;
  std::set<std::pair<dev_t, ino_t>> shared_;  // shared memory that was counted
  uint64_t memory_ = 0;
};

std::string link_at(const std::string& path) {
  char target[4096];
  const ssize_t n = ::readlink(path.c_str(), target, sizeof target);
  return n > 0 ? std::string(target, static_cast<size_t>(n)) : "";
}

// The value of "Name:   value" in /proc/PID/status or fdinfo.
std::string field_of(const std::string& text, const std::string& name) {
  const std::string padded = "\n" + text;
  const size_t at = padded.find("\n" + name + ":");
  if (at == padded.npos) return "";
  const size_t begin = padded.find_first_not_of(" \t", at + name.size() + 2);
  return begin == padded.npos ? "" : padded.substr(begin, padded.find('\n', begin) - begin);
}

uint64_t number_of(std::string_view text, int base = 10) {
  uint64_t value = 0;
  std::from_chars(text.data(), text.data() + text.size(), value, base);
  return value;
}

bool is_below(const std::string& path, std::string_view directory) {
  return path.starts_with(directory) &&
         (path.size() == directory.size() || path[directory.size()] == '/');
}

// Made with the container, and CRIU's to save.
bool is_private(const std::string& path) {
  return is_below(path, "/dev") || is_below(path, "/run") || is_below(path, "/proc") ||
         is_below(path, "/sys");
}

bool known_device(const struct stat& about) {
  const unsigned major = major(about.st_rdev), minor = minor(about.st_rdev);
  if (!S_ISCHR(about.st_mode)) return false;
  if (major == 1) return minor == 3 || minor == 5 || minor == 7 || minor == 8 || minor == 9;
  if (major == 5) return minor == 0 || minor == 2;  // tty, ptmx
  return major >= 136 && major <= 143;              // pts
}

bool known_family(int family) {
  return family == AF_UNIX || family == AF_INET || family == AF_INET6 || family == AF_PACKET ||
         family == AF_NETLINK;
}

// Kinds of descriptors that CRIU cannot dump, by what their links say.
const char* undumpable(const std::string& link) {
  static constexpr std::pair<std::string_view, const char*> kKinds[] = {
      {"anon_inode:[io_uring]", "uses io_uring"},
      {"anon_inode:[userfaultfd]", "uses userfaultfd"},
      {"anon_inode:[perf_event]", "has performance counters open (a profiler?)"},
      {"anon_inode:bpf", "has eBPF objects open"},
      {"anon_inode:kvm", "runs a virtual machine (kvm)"},
      {"anon_inode:[fscontext]", "has a file system context open"},
      {"anon_inode:dmabuf", "has a DMA buffer open"},
      {"/dmabuf:", "has a DMA buffer open"},
  };
  for (const auto& [start, what] : kKinds)
    if (link.starts_with(start)) return what;
  return nullptr;
}

bool on_network(const std::string& type) {
  return type.starts_with("nfs") || type == "cifs" || type == "smb3";
}

Result<> Surveyor::read_container(pid_t init) {
  const std::string proc = "/proc/" + std::to_string(init);
  pid_namespace_ = link_at(proc + "/ns/pid");
  auto text = read_file(proc + "/mountinfo");
  if (!text || pid_namespace_.empty())
    return fail(ErrorKind::kNotFound,
                "the container's pid 1 (process " + std::to_string(init) + ") cannot be looked at");
  std::istringstream lines(*text);
  for (std::string line; std::getline(lines, line);) {
    std::istringstream fields(line);
    int id = 0, parent = 0;
    std::string device, root, word;
    MountPoint mount;
    if (!(fields >> id >> parent >> device >> root >> mount.point)) continue;
    while (fields >> word && word != "-") {
    }
    fields >> mount.type;
    mount.point = container::unescape(mount.point);
    const size_t colon = std::min(device.find(':'), device.size());
    mount.device = makedev(
        static_cast<unsigned>(number_of(device.substr(0, colon))),
        static_cast<unsigned>(number_of(device.substr(std::min(colon + 1, device.size())))));
    mounts_[id] = mount;
  }
  return {};
}

Result<> Surveyor::look_at(pid_t pid) {
  Process process{.proc = "/proc/" + std::to_string(pid), .label = {}, .pidfd = {}};
  const auto status = read_file(process.proc + "/status");
  if (!status) return {};  // gone
  const std::string inner = field_of(*status, "NSpid");
  process.label = "process " + inner.substr(inner.find_last_of(" \t") + 1) + " (" +
                  field_of(*status, "Name") + ")";
  if (field_of(*status, "State").starts_with('Z')) return {};
  process.pidfd.reset(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0)));
  memory_ += number_of(field_of(*status, "RssAnon")) * 1024;
  if (field_of(*status, "TracerPid") != "0")
    obstacle(process, "is being traced: a debugger is attached");
  if (link_at(process.proc + "/ns/pid") != pid_namespace_)
    obstacle(process, "is in another pid namespace than the container");
  look_at_descriptors(process);
  return look_at_mappings(process);
}

void Surveyor::look_at_descriptors(const Process& process) {
  const std::string directory = process.proc + "/fd";
  const std::unique_ptr<DIR, int (*)(DIR*)> open(::opendir(directory.c_str()), ::closedir);
  if (!open) return;
  while (const dirent* entry = ::readdir(open.get()))
    if (entry->d_name[0] != '.') look_at_descriptor(process, entry->d_name);
}

void Surveyor::look_at_descriptor(const Process& process, const std::string& number) {
  const std::string path = process.proc + "/fd/" + number, link = link_at(path);
  if (link.starts_with("socket:"))
    return look_at_socket(process, static_cast<int>(number_of(number)));
  if (const char* what = undumpable(link)) return obstacle(process, what);
  const std::string fdinfo = read_file(process.proc + "/fdinfo/" + number).value_or("");
  if (link.starts_with("anon_inode:inotify") || link.starts_with("anon_inode:[fanotify]"))
    return look_at_watches(process, fdinfo);
  struct stat about{};
  if (!link.starts_with('/') || ::stat(path.c_str(), &about) != 0) return;
  const bool regular = S_ISREG(about.st_mode);
  if (regular && about.st_nlink == 0) return;  // deleted, or a memfd: CRIU keeps it
  if (!mounts_.contains(static_cast<int>(number_of(field_of(fdinfo, "mnt_id")))))
    return obstacle(process, "has " + link + " open, on a mount that the container does not show");
  if (S_ISCHR(about.st_mode) || S_ISBLK(about.st_mode)) {
    if (!known_device(about)) obstacle(process, "has the device " + link + " open");
  } else if (regular) {
    add_file(process, link, about,
             (number_of(field_of(fdinfo, "flags"), 8) & O_ACCMODE) != O_RDONLY);
  }
}

// A copy of the descriptor tells what kind of socket it is; the process does not notice.
void Surveyor::look_at_socket(const Process& process, int number) {
  const Fd copy(static_cast<int>(::syscall(SYS_pidfd_getfd, process.pidfd.get(), number, 0)));
  int family = AF_UNSPEC;
  socklen_t size = sizeof family;
  if (!copy || ::getsockopt(copy.get(), SOL_SOCKET, SO_DOMAIN, &family, &size) != 0) return;
  if (!known_family(family))
    obstacle(process, "has a socket of address family " + std::to_string(family) + " open");
}

// "inotify wd:1 ino:a8 sdev:fd00001 ...": watches on a file server cannot be made again by handle.
void Surveyor::look_at_watches(const Process& process, const std::string& fdinfo) {
  for (size_t at = fdinfo.find("sdev:"); at != fdinfo.npos; at = fdinfo.find("sdev:", at + 1)) {
    const uint64_t device = number_of(std::string_view(fdinfo).substr(at + 5), 16);
    for (const auto& [id, mount] : mounts_)
      if (on_network(mount.type) &&
          mount.device ==
              makedev(static_cast<unsigned>(device >> 20), static_cast<unsigned>(device & 0xfffff)))
        return obstacle(process, "watches files on " + mount.point + " (" + mount.type +
                                     ") with inotify or fanotify");
  }
}

Result<> Surveyor::look_at_mappings(const Process& process) {
  auto maps = read_file(process.proc + "/maps", 256 << 20);
  if (!maps)
    return maps.error().kind() == ErrorKind::kDamaged ? Result<>(fail(maps.error())) : Result<>{};
  std::istringstream lines(*maps);
  for (std::string line; std::getline(lines, line);) look_at_mapping(process, line);
  return {};
}

// "7f00-7f10 rw-s 00000000 fd:01 1234   /path": the range also names a link to the file itself.
void Surveyor::look_at_mapping(const Process& process, const std::string& line) {
  std::istringstream fields(line);
  std::string range, mode, offset, device, inode;
  if (!(fields >> range >> mode >> offset >> device >> inode) || inode == "0" || mode.size() < 4)
    return;
  const size_t slash = line.find('/');
  if (line.find("anon_inode:[io_uring]") != line.npos) return obstacle(process, "uses io_uring");
  struct stat about{};
  if (slash == line.npos || ::stat((process.proc + "/map_files/" + range).c_str(), &about) != 0)
    return;
  const std::string path = container::unescape(line.substr(slash));
  const bool shared = mode[3] == 's';
  if (S_ISREG(about.st_mode) && shared && (about.st_nlink == 0 || is_private(path)) &&
      shared_.emplace(about.st_dev, about.st_ino).second)
    memory_ += static_cast<uint64_t>(about.st_blocks) *
               512;  // shared memory: what is allocated of it, once
  if (S_ISREG(about.st_mode) && about.st_nlink > 0)
    add_file(process, path, about, shared && mode[1] == 'w');
  if (S_ISCHR(about.st_mode) && !known_device(about))
    obstacle(process, "has the device " + path + " mapped");
}

void Surveyor::add_file(const Process& process, const std::string& path, const struct stat& about,
                        bool writable) {
  if (path.ends_with(" (deleted)"))
    return obstacle(
        process,
        "uses " + path + ", which lives on under another name: close it before a checkpoint");
  if (is_private(path)) return;
  statefile::FileRecord& file = files_[path];
  file.path = path;
  file.size = static_cast<uint64_t>(about.st_size);
  file.writable = file.writable || writable;
}

Survey Surveyor::take() {
  Survey survey;
  for (auto& [path, file] : files_) survey.files.push_back(std::move(file));
  survey.obstacles.assign(obstacles_.begin(), obstacles_.end());
  survey.memory = memory_;
  return survey;
}

}  // namespace

Result<Survey> survey(pid_t init, const std::vector<pid_t>& processes) {
  Surveyor surveyor;
  if (auto r = surveyor.read_container(init); !r) return fail(r.error());
  for (const pid_t pid : processes)
    if (auto r = surveyor.look_at(pid); !r) return fail(r.error());
  return surveyor.take();
}

}  // namespace stillpoint::criu
