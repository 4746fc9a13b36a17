#include "criu-glue/criu/threads.h"

#include <elf.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/ptrace.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <optional>
#include <sstream>

#include "common/fd.h"

namespace stillpoint::criu {

namespace {

namespace fs = std::filesystem;

constexpr size_t kCodeBytes = 64;  // CRIU uses 8 for the call and 8 behind it for an argument
constexpr const char* kParasite = "CRIUMFD";  // the memfd's name (compel)

std::string proc_of(pid_t pid, const char* file) {
  return "/proc/" + std::to_string(pid) + "/" + file;
}

// Stops one thread for as long as it lives.  A frozen thread stays frozen after that.
class Seized {
 public:
  // No value: there is no such thread any more.
  static Result<std::optional<Seized>> seize(pid_t thread, Deadline deadline) {
    if (::ptrace(PTRACE_SEIZE, thread, nullptr, nullptr) != 0) {
      if (errno == ESRCH || !alive(thread)) return std::nullopt;
      return fail_errno("tracing thread " + std::to_string(thread));
    }
    Seized seized(thread);
    ::ptrace(PTRACE_INTERRUPT, thread, nullptr, nullptr);
    for (int status = 0;; ::poll(nullptr, 0, 1)) {
      const pid_t pid = ::waitpid(thread, &status, __WALL | WNOHANG);
      if (pid == thread && WIFSTOPPED(status)) return std::optional(std::move(seized));
      if (pid != 0) return std::nullopt;
      if (deadline.passed())
        return fail(ErrorKind::kTimeout,
                    "thread " + std::to_string(thread) + " does not stop for ptrace");
    }
  }
  Seized(Seized&& other) noexcept : thread_(std::exchange(other.thread_, 0)) {}
  Seized& operator=(Seized&&) = delete;
  ~Seized() {
    if (thread_) ::ptrace(PTRACE_DETACH, thread_, nullptr, nullptr);
  }

 private:
  explicit Seized(pid_t thread) : thread_(thread) {}
  static bool alive(pid_t thread) {
    const auto status = read_file(proc_of(thread, "status"));
    return status && status->find("\nState:\tZ") == status->npos;
  }
  pid_t thread_;
};

bool get_set(bool get, pid_t thread, int kind, void* data, size_t& size) {
  iovec area{data, size};
  const auto request = get ? PTRACE_GETREGSET : PTRACE_SETREGSET;
  const bool good = ::ptrace(request, thread, kind, &area) == 0;
  size = area.iov_len;
  return good;
}

constexpr bool kGet = true, kSet = false;

// Start and end of the first mapping whose line in maps fits.
template <typename Fits>
std::optional<std::pair<uint64_t, uint64_t>> find_mapping(pid_t pid, Fits fits) {
  const auto maps = read_file(proc_of(pid, "maps"), 64 << 20);
  std::istringstream lines(maps ? *maps : "");
  for (std::string line; std::getline(lines, line);) {
    char* rest = nullptr;
    const uint64_t start = std::strtoull(line.c_str(), &rest, 16);
    if (*rest != '-') continue;
    const uint64_t end = std::strtoull(rest + 1, &rest, 16);
    if (fits(std::string_view(rest))) return std::pair(start, end);
  }
  return std::nullopt;
}

std::optional<std::string> read_code(pid_t pid, uint64_t at) {
  auto memory = open_file(proc_of(pid, "mem"), O_RDONLY);
  std::string code(kCodeBytes, 0);
  if (!memory || ::pread(memory->get(), code.data(), code.size(), static_cast<off_t>(at)) !=
                     static_cast<ssize_t>(code.size()))
    return std::nullopt;
  return code;
}

Result<> write_code(pid_t pid, uint64_t at, const std::string& code) {
  auto memory = open_file(proc_of(pid, "mem"), O_WRONLY);
  if (!memory) return fail(memory.error());
  if (::pwrite(memory->get(), code.data(), code.size(), static_cast<off_t>(at)) !=
      static_cast<ssize_t>(code.size()))
    return fail_errno("writing into process " + std::to_string(pid));
  return {};
}

Result<std::vector<pid_t>> numbers_in(const std::string& file) {
  const auto text = read_file(file, 16 << 20);
  if (!text) return fail(text.error());
  std::istringstream lines(*text);
  std::vector<pid_t> numbers;
  for (pid_t number; lines >> number;) numbers.push_back(number);
  return numbers;
}

std::vector<pid_t> threads_of(pid_t pid) {
  std::vector<pid_t> threads;
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(proc_of(pid, "task"), error))
    threads.push_back(std::atoi(entry.path().filename().c_str()));
  return threads;
}

bool runs_parasite(pid_t process, uint64_t instruction) {
  const auto blob = find_mapping(
      process, [](std::string_view rest) { return rest.find(kParasite) != rest.npos; });
  return blob && instruction >= blob->first && instruction < blob->second;
}

}  // namespace

Result<SavedThreads::Thread> SavedThreads::save_thread(pid_t process, pid_t thread,
                                                       Deadline deadline) {
  Thread saved{.process = process, .thread = 0, .registers = {}, .extended = {}, .signal_mask = 0};
  auto seized = Seized::seize(thread, deadline);
  if (!seized) return fail(seized.error());
  if (!*seized) return saved;
  size_t size = sizeof saved.registers;
  saved.extended.resize(64 << 10);
  size_t extended = saved.extended.size();
  if (!get_set(kGet, thread, NT_PRSTATUS, &saved.registers, size) ||
      !get_set(kGet, thread, NT_X86_XSTATE, saved.extended.data(), extended) ||
      ::ptrace(PTRACE_GETSIGMASK, thread, sizeof saved.signal_mask, &saved.signal_mask) != 0)
    return fail_errno("reading the registers of thread " + std::to_string(thread));
  saved.extended.resize(extended);
  saved.extended.shrink_to_fit();
  saved.thread = thread;
  return saved;
}

Result<SavedThreads> SavedThreads::save(const std::string& cgroup, Deadline deadline) {
  auto processes = numbers_in(cgroup + "/cgroup.procs");
  if (!processes) return fail(processes.error());
  SavedThreads all;
  for (const pid_t pid : *processes) {
    for (const pid_t thread : threads_of(pid)) {
      auto saved = save_thread(pid, thread, deadline);
      if (!saved) return fail(saved.error());
      if (saved->thread) all.threads_.push_back(std::move(*saved));
    }
    const auto code = find_mapping(pid, [](std::string_view rest) {
      return rest.size() > 3 && rest[3] == 'x';  // " r-xp": as CRIU looks for it
    });
    if (!code) continue;
    if (auto bytes = read_code(pid, code->first))
      all.processes_.push_back({pid, code->first, std::move(*bytes)});
  }
  return all;
}

Result<> SavedThreads::put_back(const Thread& saved, Deadline deadline) {
  auto seized = Seized::seize(saved.thread, deadline);
  if (!seized) return fail(seized.error());
  if (!*seized)
    return fail(ErrorKind::kNotFound,
                "thread " + std::to_string(saved.thread) + " has not survived CRIU's death");
  user_regs_struct now{};
  uint64_t mask = 0;
  size_t size = sizeof now;
  if (!get_set(kGet, saved.thread, NT_PRSTATUS, &now, size) ||
      ::ptrace(PTRACE_GETSIGMASK, saved.thread, sizeof mask, &mask) != 0)
    return fail_errno("reading the registers of thread " + std::to_string(saved.thread));
  if (saved.thread == saved.process && runs_parasite(saved.process, now.rip)) return {};
  if (std::memcmp(&now, &saved.registers, sizeof now) == 0 && mask == saved.signal_mask) return {};
  Thread copy = saved;
  size_t extended = copy.extended.size();
  if (!get_set(kSet, saved.thread, NT_PRSTATUS, &copy.registers, size) ||
      !get_set(kSet, saved.thread, NT_X86_XSTATE, copy.extended.data(), extended) ||
      ::ptrace(PTRACE_SETSIGMASK, saved.thread, sizeof mask, &copy.signal_mask) != 0)
    return fail_errno("putting back the registers of thread " + std::to_string(saved.thread));
  return {};
}

Result<> SavedThreads::put_back(Deadline deadline) const {
  for (const Process& process : processes_) {
    const auto now = read_code(process.pid, process.code_at);
    if (!now || *now == process.code) continue;
    if (auto r = write_code(process.pid, process.code_at, process.code); !r) return r;
  }
  for (const Thread& thread : threads_)
    if (auto r = put_back(thread, deadline); !r) return r;
  return {};
}

}  // namespace stillpoint::criu
