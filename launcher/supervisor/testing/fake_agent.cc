#include "launcher/supervisor/testing/fake_agent.h"

#include <fcntl.h>
#include <grp.h>
#include <net/if.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <stdexcept>

#include "common/wire/versions.h"

namespace stillpoint::supervisor::testing {

namespace {

using namespace std::chrono_literals;
constexpr uid_t kUser = 65534;
constexpr auto kPatience = 30s;

[[noreturn]] void broken(const std::string& what) {
  throw std::runtime_error(what + ": " + std::strerror(errno));
}

sockaddr_un address_of(const std::string& path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) throw std::runtime_error(path + " is too long");
  std::memcpy(address.sun_path, path.c_str(), path.size());
  return address;
}

Fd listen_at(const std::string& path) {
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = address_of(path);
  if (::bind(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
      ::listen(fd.get(), 4) != 0)
    broken(path);
  return fd;
}

Fd connected_to(const std::string& path) {
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const sockaddr_un address = address_of(path);
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0)
    broken("connecting to the supervisor");
  return fd;
}

bool raise_loopback() {
  const int fd = ::socket(AF_INET, SOCK_DGRAM, 0);
  ifreq request{};
  std::memcpy(request.ifr_name, "lo", 3);
  request.ifr_flags = IFF_UP | IFF_RUNNING;
  const bool up = fd >= 0 && ::ioctl(fd, SIOCSIFFLAGS, &request) == 0;
  ::close(fd);
  return up;
}

// In pid 1 of the new namespaces.
[[noreturn]] void become_supervisor(int listening, int errors, std::string tick_ms,
                                    const std::string& name) {
  const int null = ::open("/dev/null", O_RDWR);
  const int socket =
      ::fcntl(listening, F_DUPFD, 10);  // not 3 itself, which dup2() would leave close-on-exec
  const bool ok = ::mount(nullptr, "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                  ::mount("proc", "/proc", "proc", 0, nullptr) == 0 &&
                  ::mount("shm", "/dev/shm", "tmpfs", 0, "mode=1777") == 0 &&
                  ::sethostname(name.data(), name.size()) == 0 && raise_loopback() &&
                  ::dup2(errors, 2) == 2 && ::dup2(null, 0) == 0 && ::dup2(null, 1) == 1 &&
                  ::dup2(socket, 3) == 3 && ::close_range(4, ~0U, 0) == 0 &&
                  ::setgroups(0, nullptr) == 0 && ::setgid(kUser) == 0 && ::setuid(kUser) == 0;
  if (!ok) _exit(98);
  char program[] = SUPERVISOR_PROGRAM;
  char option[] = "--tick-ms";
  char* const argv[] = {program, option, tick_ms.data(), nullptr};
  char path[] = "PATH=/usr/bin:/bin";
  char* const env[] = {path, nullptr};
  ::execve(program, argv, env);
  _exit(99);
}

}  // namespace

FakeAgent::FakeAgent(const std::string& socket_path, uint64_t output_taken)
    : FakeAgent(connected_to(socket_path), output_taken) {}

FakeAgent::FakeAgent(Fd connected, uint64_t output_taken) : socket_(std::move(connected)) {
  link::ToSupervisor mine;
  mine.mutable_hello()->set_version(wire::kLinkVersion);
  mine.mutable_hello()->set_output_taken(output_taken);
  send(mine);
  auto first = receive();
  if (!first || !first->has_hello()) throw std::runtime_error("no Hello from the supervisor");
  hello_ = first->hello();
}

void FakeAgent::send(const link::ToSupervisor& message) {
  send_raw(wire::frame(message.SerializeAsString()));
}

void FakeAgent::send_raw(const std::string& bytes) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n = ::send(socket_.get(), bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n < 0 && errno != EPIPE) broken("send");
    if (n < 0) return;  // closed: receive() shows it
    sent += static_cast<size_t>(n);
  }
}

void FakeAgent::acknowledge(uint64_t next) {
  link::ToSupervisor message;
  message.mutable_output_taken()->set_next(next);
  send(message);
}

void FakeAgent::feed(uint64_t offset, const std::string& data, bool end) {
  link::ToSupervisor message;
  message.mutable_stdin()->set_offset(offset);
  message.mutable_stdin()->set_data(data);
  message.mutable_stdin()->set_end(end);
  send(message);
}

void FakeAgent::signal(int number) {
  link::ToSupervisor message;
  message.mutable_signal()->set_number(number);
  send(message);
}

std::optional<link::FromSupervisor> FakeAgent::receive() {
  const auto deadline = Deadline::in(kPatience);
  for (;;) {
    auto payload = frames_.next();
    if (!payload) throw std::runtime_error(payload.error().line());
    if (*payload) {
      link::FromSupervisor message;
      if (!message.ParseFromString(**payload)) throw std::runtime_error("a broken message");
      return message;
    }
    pollfd p{socket_.get(), POLLIN, 0};
    if (::poll(&p, 1, deadline.poll_timeout()) == 0)
      throw std::runtime_error("nothing came for 30 s");
    char buffer[65536];
    const ssize_t n = ::read(socket_.get(), buffer, sizeof buffer);
    if (n <= 0) return std::nullopt;
    frames_.feed({buffer, static_cast<size_t>(n)});
  }
}

std::vector<link::FromSupervisor> FakeAgent::park() {
  link::ToSupervisor message;
  message.mutable_park();
  send(message);
  std::vector<link::FromSupervisor> before;
  bool parked = false;
  while (auto one = receive()) {
    if (parked) throw std::runtime_error("a message behind Parked");
    if (one->has_parked())
      parked = true;
    else
      before.push_back(*one);
  }
  if (!parked) throw std::runtime_error("the link was closed without Parked");
  return before;
}

void Gathered::take(const link::FromSupervisor& m) {
  if (m.has_output()) {
    if (m.output().number() < next) {
      repeated++;
      return;
    }
    if (m.output().number() > next && next != 0) throw std::runtime_error("a record is missing");
    next = m.output().number() + 1;
    (m.output().stream() == link::STDOUT ? out : err) += m.output().data();
    if (m.output().stream() == link::STDOUT) by_rank[m.output().rank()] += m.output().data();
  } else if (m.has_stdin_taken()) {
    stdin_taken = m.stdin_taken().offset();
    stdin_closed = m.stdin_taken().closed();
  } else if (m.has_started()) {
    pids.assign(m.started().pids().begin(), m.started().pids().end());
  } else if (m.has_start_failed()) {
    start_failed = m.start_failed();
  } else if (m.has_ended()) {
    ended = m.ended();
  } else if (m.has_state()) {
    state = m.state();
    state_came = true;
  }
}

TestSupervisor::TestSupervisor(const std::string& tick_ms) : TestSupervisor(tick_ms, Host{}) {}

TestSupervisor::TestSupervisor(const std::string& tick_ms, const Host& host) {
  char name[] = "/tmp/stillpoint-supervisor-XXXXXX";
  if (!::mkdtemp(name) || ::chmod(name, 0755) != 0) broken(name);
  directory_ = name;
  if (::chown(name, kUser, kUser) != 0) broken("chown (these tests need root)");
  socket_path_ = directory_ + "/s";
  const Fd listening = listen_at(socket_path_);
  auto errors = open_file(directory_ + "/complaints", O_WRONLY | O_CREAT | O_APPEND);
  auto pid_pipe = make_pipe();
  if (!errors || !pid_pipe) broken("files");
  auto outer = fork_child([&] {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    const int network = host.network < 0 ? CLONE_NEWNET : 0;
    if (::unshare(CLONE_NEWPID | CLONE_NEWNS | CLONE_NEWIPC | CLONE_NEWUTS | network) != 0 ||
        (host.network >= 0 && ::setns(host.network, CLONE_NEWNET) != 0))
      return 97;
    const pid_t init = ::fork();
    if (init == 0) {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);
      become_supervisor(listening.get(), errors->get(), tick_ms, host.name);
    }
    if (::write(pid_pipe->write.get(), &init, sizeof init) != sizeof init) return 96;
    int status = 0;
    ::waitpid(init, &status, 0);
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
  });
  if (!outer) throw std::runtime_error(outer.error().line());
  outer_ = std::move(*outer);
  pid_pipe->write.reset();
  if (::read(pid_pipe->read.get(), &init_, sizeof init_) != sizeof init_)
    throw std::runtime_error("no namespaces could be made (these tests need root)");
}

void TestSupervisor::kill() {
  if (outer_.running() && init_ > 0) ::kill(init_, SIGKILL);
}

TestSupervisor::~TestSupervisor() {
  kill();
  if (outer_.running()) (void)outer_.wait(Deadline::in(kPatience), "the supervisor's end");
  std::error_code ignored;
  std::filesystem::remove_all(directory_, ignored);
}

std::string TestSupervisor::complaints() const {
  auto text = read_file(directory_ + "/complaints");
  return text ? *text : std::string();
}

Exit TestSupervisor::wait() {
  auto exit = outer_.wait(Deadline::in(kPatience), "the supervisor to leave");
  if (!exit) throw std::runtime_error(exit.error().line());
  return *exit;
}

uint64_t TestSupervisor::memory() const {
  auto text = read_file("/proc/" + std::to_string(init_) + "/statm");
  if (!text) throw std::runtime_error(text.error().line());
  return std::stoull(text->substr(text->find(' '))) * static_cast<uint64_t>(::getpagesize());
}

std::vector<std::string> TestSupervisor::descriptors() const {
  std::vector<std::string> found;
  for (const auto& entry :
       std::filesystem::directory_iterator("/proc/" + std::to_string(init_) + "/fd"))
    found.push_back(std::filesystem::read_symlink(entry.path()).string());
  return found;
}

link::ToSupervisor TestSupervisor::start_message(uint32_t ranks, std::vector<std::string> argv,
                                                 std::vector<std::string> env) const {
  link::ToSupervisor message;
  auto* start = message.mutable_start();
  for (auto& word : argv) start->add_argv(word);
  start->add_env("PATH=/usr/local/bin:/usr/bin:/bin");
  start->add_env("HOME=" + directory_);
  for (auto& one : env) start->add_env(one);
  start->set_directory(directory_);
  start->set_ranks(ranks);
  start->set_job("test-job");
  start->set_hostname("node0");
  start->set_processors(static_cast<uint32_t>(::sysconf(_SC_NPROCESSORS_ONLN)));
  return message;
}

Gathered TestSupervisor::run(uint32_t ranks, const std::vector<std::string>& argv,
                             const std::vector<std::string>& env) {
  Gathered all;
  FakeAgent agent = call();
  agent.send(start_message(ranks, argv, env));
  agent.feed(0, "", true);
  gather(agent, all, [&] { return all.ended.has_value(); });
  link::ToSupervisor bye;
  bye.mutable_bye();
  agent.send(bye);
  wait();
  return all;
}

}  // namespace stillpoint::supervisor::testing
