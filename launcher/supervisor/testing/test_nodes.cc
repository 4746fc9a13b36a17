#include "launcher/supervisor/testing/test_nodes.h"

#include <fcntl.h>
#include <sched.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <stdexcept>

#include "common/process.h"

namespace stillpoint::supervisor::testing {

namespace {

using namespace std::chrono_literals;

Fd new_network() {
  auto ready = make_pipe();
  if (!ready) throw std::runtime_error("pipe");
  auto holder = fork_child([&] {
    if (::unshare(CLONE_NEWNET) != 0) return 1;
    ready->write.reset();
    ::pause();
    return 0;
  });
  if (!holder) throw std::runtime_error(holder.error().line());
  ready->write.reset();
  char end = 0;
  (void)!::read(ready->read.get(), &end, 1);
  auto fd = open_file("/proc/" + std::to_string(holder->pid()) + "/ns/net", O_RDONLY);
  ::kill(holder->pid(), SIGKILL);
  (void)holder->wait(Deadline::in(5s), "the holder of a namespace");
  if (!fd) throw std::runtime_error(fd.error().line());
  return std::move(*fd);
}

}  // namespace

void TestNetwork::in_namespace(int network, const std::function<int()>& act) {
  auto child = fork_child([&] { return ::setns(network, CLONE_NEWNET) == 0 ? act() : 99; });
  if (!child) throw std::runtime_error(child.error().line());
  auto exit = child->wait(Deadline::in(20s), "work in a network namespace");
  if (!exit || !exit->ok()) throw std::runtime_error("work in a network namespace failed");
}

void TestNetwork::shell_in(int network, const std::string& script) {
  in_namespace(network, [&] {
    ::setenv("PATH", "/usr/sbin:/usr/bin:/sbin:/bin", 1);
    auto done = run_program({"sh", "-ec", script}, Deadline::in(20s));
    return done ? done->exit.status() : 98;
  });
}

std::string TestNetwork::address(size_t index) {
  return "100.64.0." + std::to_string(index + 1);
}

TestNetwork::TestNetwork(size_t nodes) : hub_(new_network()) {
  std::string hub = "ip link add bridge type bridge; ip link set bridge up";
  for (size_t i = 0; i < nodes; i++) {
    nodes_.push_back(new_network());
    const std::string port = "port" + std::to_string(i);
    const std::string ns =
        "/proc/" + std::to_string(::getpid()) + "/fd/" + std::to_string(nodes_.back().get());
    hub += "; ip link add " + port + " type veth peer name peer";
    hub += "; ip link set " + port + " master bridge up; ip link set peer netns " + ns;
  }
  shell_in(hub_.get(), hub);
  for (size_t i = 0; i < nodes; i++)
    shell_in(nodes_[i].get(), "ip link set lo up; ip link set peer name mpi0; ip addr add " +
                                  address(i) + "/16 dev mpi0; ip link set mpi0 up");
}

TestNodes::TestNodes(Spread spread, const std::string& tick_ms)
    : spread_(std::move(spread)), network_(spread_.size()), gathered_(spread_.size()) {
  for (size_t i = 0; i < spread_.size(); i++) {
    supervisors_.push_back(std::make_unique<TestSupervisor>(
        tick_ms, TestSupervisor::Host{.name = name(i), .network = network_.node(i)}));
    agents_.push_back(std::make_unique<FakeAgent>(supervisors_.back()->call()));
  }
}

link::ToSupervisor TestNodes::start_message(size_t node, const std::vector<std::string>& argv,
                                            const std::vector<std::string>& env) const {
  uint32_t ranks = 0;
  for (const auto& here : spread_) ranks += static_cast<uint32_t>(here.size());
  auto message = supervisors_.front()->start_message(ranks, argv, env);
  auto* start = message.mutable_start();
  for (size_t i = 0; i < spread_.size(); i++) {
    auto* one = start->add_nodes();
    one->set_hostname(name(i));
    one->set_address(TestNetwork::address(i));
    one->mutable_ranks()->Add(spread_[i].begin(), spread_[i].end());
  }
  start->set_node(static_cast<uint32_t>(node));
  start->set_token("0123456789abcdef");
  return message;
}

void TestNodes::start(const std::vector<std::string>& argv, const std::vector<std::string>& env) {
  for (size_t i = 0; i < agents_.size(); i++) {
    agents_[i]->send(start_message(i, argv, env));
    agents_[i]->feed(0, "", true);
  }
}

void TestNodes::await_end(size_t node) {
  gather(*agents_[node], gathered_[node], [&] { return gathered_[node].ended.has_value(); });
}

void TestNodes::bye() {
  link::ToSupervisor message;
  message.mutable_bye();
  for (auto& agent : agents_) agent->send(message);
  for (auto& supervisor : supervisors_) supervisor->wait();
}

std::map<uint32_t, std::string> TestNodes::run(const std::vector<std::string>& argv,
                                               const std::vector<std::string>& env) {
  start(argv, env);
  std::map<uint32_t, std::string> said;
  for (size_t i = 0; i < agents_.size(); i++) {
    await_end(i);
    said.insert(gathered_[i].by_rank.begin(), gathered_[i].by_rank.end());
  }
  bye();
  return said;
}

std::string TestNodes::errors() const {
  std::string text;
  for (size_t i = 0; i < gathered_.size(); i++)
    text += gathered_[i].err + supervisors_[i]->complaints();
  return text;
}

std::vector<std::string> TestNodes::endings() const {
  std::vector<std::string> found;
  for (const Gathered& one : gathered_) {
    if (!one.ended) {
      found.push_back("-");
      continue;
    }
    std::string text = std::to_string(one.ended->status());
    if (!one.ended->reason().empty()) text += " " + one.ended->reason();
    found.push_back(text);
  }
  return found;
}

}  // namespace stillpoint::supervisor::testing
