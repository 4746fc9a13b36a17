// What the tests dump: a small job.  subject DIRECTORY [MEGABYTES]: counts in DIRECTORY/count, and
// holds what real jobs hold: a child at the other end of pipes, shared memory, a TCP connection
// over lo, epoll, an unlinked file, threads.  Every round sends a number through all of it and
// checks what comes back; the first thing that is not as it should be is written to
// DIRECTORY/wrong, and the job ends with 1. Its memory holds a pattern that is checked, a page in
// each round. subject hold KIND DIRECTORY: has one thing open that makes trouble, writes
// DIRECTORY/ready, and waits.
#include <arpa/inet.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>

namespace {

constexpr size_t kPage = 4096;
constexpr int kThreads = 3;

std::string directory;
std::atomic<uint64_t>* shared;  // [0]: rounds of the child, [1..]: of the threads
uint64_t* memory;
size_t pages;

[[noreturn]] void wrong(const char* what) {
  const int error_number = errno;
  const int fd = ::open((directory + "/wrong").c_str(), O_WRONLY | O_CREAT | O_APPEND, 0644);
  const std::string text = std::string(what) + " (errno " + std::to_string(error_number) + ")\n";
  (void)!::write(fd, text.data(), text.size());
  _exit(1);
}

void check(bool good, const char* what) {
  if (!good) wrong(what);
}

uint64_t pattern(size_t page) {
  return (page + 1) * 0x9e3779b97f4a7c15u;
}

void exchange(int out, int in, uint64_t number, const char* what) {
  uint64_t back = 0;
  check(::write(out, &number, sizeof number) == sizeof number, what);
  check(::recv(in, &back, sizeof back, MSG_WAITALL) == sizeof back || errno == ENOTSOCK, what);
  if (errno == ENOTSOCK) check(::read(in, &back, sizeof back) == sizeof back, what);
  errno = 0;
  check(back == number * 3, what);
}

// Floating point registers in the middle of work, and sleeps to be interrupted.
void* thread_main(void* argument) {
  const auto index = reinterpret_cast<uintptr_t>(argument);
  for (uint64_t round = 1;; round++) {
    double sum = 0;
    for (int i = 1; i <= 20000; i++) sum += 1.0 / (i * 1.0 * i);
    check(std::fabs(sum - 1.6448840680982085) < 1e-9, "a thread's arithmetic");
    if (index == 1) ::poll(nullptr, 0, 1);
    check(shared[1 + index].fetch_add(1) + 1 == round, "a thread's counter");
  }
}

// Answers three times the number, on whichever of the two it came.
[[noreturn]] void child_main(int pipe_in, int pipe_out, int tcp) {
  const int poller = ::epoll_create1(EPOLL_CLOEXEC);
  for (const int fd : {pipe_in, tcp}) {
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.fd = fd;
    check(::epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) == 0, "epoll_ctl");
  }
  for (;;) {
    epoll_event event{};
    const int n = ::epoll_wait(poller, &event, 1, -1);
    if (n < 0 && errno == EINTR) continue;
    check(n == 1, "epoll_wait");
    uint64_t number = 0;
    const ssize_t got = ::read(event.data.fd, &number, sizeof number);
    if (got == 0) _exit(0);
    check(got == sizeof number, "the child's read");
    number *= 3;
    const int out = event.data.fd == tcp ? tcp : pipe_out;
    check(::write(out, &number, sizeof number) == sizeof number, "the child's write");
    shared[0]++;
  }
}

void connect_over_lo(int* one, int* other) {
  const int server = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof address;
  auto* generic = reinterpret_cast<sockaddr*>(&address);
  check(::bind(server, generic, size) == 0 && ::listen(server, 1) == 0, "listen");
  check(::getsockname(server, generic, &size) == 0, "getsockname");
  *one = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  check(::connect(*one, generic, size) == 0, "connect: is lo up?");
  *other = ::accept4(server, nullptr, nullptr, SOCK_CLOEXEC);
  check(*other >= 0, "accept");
  ::close(server);
}

void* map_shared(size_t size, int extra) {
  void* at = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, extra | MAP_ANONYMOUS, -1, 0);
  check(at != MAP_FAILED, "mmap");
  return at;
}

int open_trouble(const std::string& kind) {
  const std::string path = directory + "/" + kind;
  if (kind == "io_uring") {
    static char parameters[256];
    return static_cast<int>(::syscall(SYS_io_uring_setup, 4, parameters));
  }
  if (kind == "vsock") return ::socket(AF_VSOCK, SOCK_STREAM, 0);
  if (kind == "userfaultfd") return static_cast<int>(::syscall(SYS_userfaultfd, O_CLOEXEC));
  if (kind == "perf") {
    static perf_event_attr what{};
    what.size = sizeof what;
    what.type = PERF_TYPE_SOFTWARE;
    what.config = PERF_COUNT_SW_TASK_CLOCK;
    return static_cast<int>(::syscall(SYS_perf_event_open, &what, 0, -1, -1, 0));
  }
  if (kind == "device") {
    if (::mknod(path.c_str(), S_IFCHR | 0600, makedev(10, 229)) != 0) return -1;  // fuse
    return ::open(path.c_str(), O_RDWR);
  }
  if (kind == "link") {
    const int fd = ::open(path.c_str(), O_RDWR | O_CREAT, 0600);
    const std::string other = path + "2";
    return ::link(path.c_str(), other.c_str()) == 0 && ::unlink(path.c_str()) == 0 ? fd : -1;
  }
  if (kind == "connecting") {  // two connections that nobody accepts
    static const int server = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    auto* generic = reinterpret_cast<sockaddr*>(&address);
    if (::bind(server, generic, size) != 0 || ::listen(server, 4) != 0 ||
        ::getsockname(server, generic, &size) != 0)
      return -1;
    const int fd = ::socket(AF_INET, SOCK_STREAM, 0);
    return ::connect(fd, generic, size) == 0 ? fd : -1;
  }
  return ::open(path.c_str(), O_RDWR | O_CREAT, 0600);  // "file"
}

[[noreturn]] void hold(const char* kind) {
  const int fd = open_trouble(kind);
  if (fd < 0) wrong(kind);
  ::close(::open((directory + "/ready").c_str(), O_WRONLY | O_CREAT, 0644));
  for (;;) ::pause();
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 2) return 64;
  if (argc == 4 && std::string(argv[1]) == "hold") {
    directory = argv[3];
    ::close(3);
    hold(argv[2]);
  }
  directory = argv[1];
  ::signal(SIGPIPE, SIG_DFL);
  ::close(3);  // the supervisor's socket is of no use here
  shared = static_cast<std::atomic<uint64_t>*>(map_shared(kPage, MAP_SHARED));
  pages = (argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 4) * 256;
  memory = static_cast<uint64_t*>(map_shared(pages * kPage, MAP_PRIVATE));
  for (size_t p = 0; p < pages; p++)
    for (size_t i = 0; i < kPage / 8; i++) memory[p * kPage / 8 + i] = pattern(p) + i;

  int down[2], up[2], tcp[2];
  check(::pipe2(down, O_CLOEXEC) == 0 && ::pipe2(up, O_CLOEXEC) == 0, "pipe");
  connect_over_lo(&tcp[0], &tcp[1]);
  const pid_t child = ::fork();
  if (child == 0) {
    ::close(down[1]);
    ::close(tcp[0]);
    child_main(down[0], up[1], tcp[1]);
  }
  ::close(down[0]);
  ::close(up[1]);
  ::close(tcp[1]);

  const int counter = ::open((directory + "/count").c_str(), O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
  const int log =
      ::open((directory + "/log").c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  const int scratch =
      ::open((directory + "/scratch").c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
  check(counter >= 0 && log >= 0 && scratch >= 0, "opening files");
  ::unlink((directory + "/scratch").c_str());
  for (uintptr_t i = 0; i < kThreads; i++) {
    pthread_t thread;
    check(::pthread_create(&thread, nullptr, thread_main, reinterpret_cast<void*>(i)) == 0,
          "pthread_create");
  }
  for (uint64_t round = 1;; round++) {
    exchange(down[1], up[0], round, "the pipes");
    exchange(tcp[0], tcp[0], round, "the TCP connection");
    uint64_t back = 0;
    check(::pwrite(scratch, &round, sizeof round, 0) == sizeof round, "the scratch file's write");
    check(::pread(scratch, &back, sizeof back, 0) == sizeof back && back == round,
          "the scratch file");
    for (size_t i = 0; i < kPage / 8; i++) {
      const size_t p = round % pages;
      check(memory[p * kPage / 8 + i] == pattern(p) + i, "the memory");
    }
    char text[24];
    std::snprintf(text, sizeof text, "%020llu\n", static_cast<unsigned long long>(round));
    check(::pwrite(counter, text, 21, 0) == 21, "the counter's write");
    if (round % 1000 == 0) check(::write(log, text, 21) == 21, "the log's write");
  }
}
