// For the tests of this folder: a munged of their own, connected sockets, and coroutines that run
// to their end.
#pragma once

#include <arpa/inet.h>
#include <fcntl.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/io_context.hpp>
#include <filesystem>
#include <fstream>
#include <optional>
#include <random>

#include "common/process.h"
#include "launcher/peer/munge.h"
#include "launcher/peer/stream.h"

namespace stillpoint::peer::testing {

using namespace std::chrono_literals;

// Runs the loop until the coroutine has ended, 60 s at most, and gives what it returned.
template <typename T>
T run(asio::io_context& io, Task<T> task) {
  std::optional<T> result;
  asio::co_spawn(io, std::move(task), [&](const std::exception_ptr& e, T value) {
    if (e) std::rethrow_exception(e);
    result.emplace(std::move(value));
    io.stop();
  });
  io.restart();
  io.run_for(60s);
  if (!result) throw std::runtime_error("the coroutine does not end");
  return std::move(*result);
}

inline void run(asio::io_context& io, Task<> task) {
  run(io, [](Task<> inner) -> Task<bool> {
    co_await std::move(inner);
    co_return true;
  }(std::move(task)));
}

// munged with a key and a socket in a directory of its own; ends with this object.
class Munged {
 public:
  explicit Munged(const std::string& key = std::string(64, 'k')) {
    char name[] = "/tmp/stillpoint-munged-XXXXXX";
    directory_ = ::mkdtemp(name);
    std::filesystem::permissions(directory_, std::filesystem::perms(0755));
    write("key", key);
    const std::vector<std::string> argv = {"/usr/sbin/munged",
                                           "--foreground",
                                           "--key-file=" + directory_ + "/key",
                                           "--socket=" + socket(),
                                           "--pid-file=" + directory_ + "/pid",
                                           "--log-file=" + directory_ + "/log",
                                           "--seed-file=" + directory_ + "/seed",
                                           "--num-threads=1"};
    auto child = fork_child([&] {
      ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // of a test that crashes, too
      std::vector<char*> words;
      for (const auto& word : argv) words.push_back(const_cast<char*>(word.c_str()));
      words.push_back(nullptr);
      ::freopen("/dev/null", "w", stderr);
      ::execv(words[0], words.data());
      return 127;
    });
    child_ = std::move(*child);
    const auto deadline = Deadline::in(20s);
    while (!Munge(socket()).encode_now("", 0) && !deadline.passed()) ::usleep(10'000);
  }
  ~Munged() {
    child_.kill();
    std::filesystem::remove_all(directory_);
  }
  std::string socket() const { return directory_ + "/socket"; }
  void stop() const { child_.send(SIGSTOP); }
  void go_on() const { child_.send(SIGCONT); }

 private:
  void write(const std::string& name, const std::string& content) const {
    const std::string path = directory_ + "/" + name;
    auto fd = open_file(path, O_WRONLY | O_CREAT | O_EXCL, 0400);
    EXPECT_TRUE(fd && write_all(fd->get(), content));
  }
  std::string directory_;
  Child child_;
};

struct Pair {
  Fd server, client;
};

inline Pair tcp_pair() {
  sockaddr_in where{};
  where.sin_family = AF_INET;
  where.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  auto* address = reinterpret_cast<sockaddr*>(&where);
  socklen_t size = sizeof where;
  const Fd listening(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  Fd client(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  EXPECT_EQ(::bind(listening.get(), address, size), 0);
  EXPECT_EQ(::listen(listening.get(), 1), 0);
  EXPECT_EQ(::getsockname(listening.get(), address, &size), 0);
  EXPECT_EQ(::connect(client.get(), address, size), 0);
  return {Fd(::accept4(listening.get(), nullptr, nullptr, SOCK_CLOEXEC)), std::move(client)};
}

inline Pair unix_pair() {
  int ends[2];
  EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends), 0);
  return {Fd(ends[0]), Fd(ends[1])};
}

inline Socket socket_of(asio::io_context& io, Fd fd) {
  return std::move(*make_socket(io.get_executor(), std::move(fd)));
}

inline bool contains(const Error& error, const std::string& words) {
  return error.line().find(words) != std::string::npos;
}

}  // namespace stillpoint::peer::testing
