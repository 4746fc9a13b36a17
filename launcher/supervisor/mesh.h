// The supervisors of a job over several nodes, connected: sockets under an engine (peers.h).
// Listens on this node's address of the container network from start() on, calls others there.
//
// No timeouts of the kernel's are set on a connection: while a job is frozen and its network locked
// for a dump nothing may expire, and all data is drained before.  Called and calls back on the main
// loop's thread.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "common/error.h"
#include "common/wire/mesh.pb.h"
#include "launcher/supervisor/peers.h"
#include "launcher/supervisor/placement.h"

namespace stillpoint::supervisor {

namespace asio = boost::asio;

class Mesh : private Peers::Actions {
 public:
  using Node = Peers::Node;
  struct Handlers {
    std::function<void(Node from, const mesh::Message&)> received;
    // Its connection is gone, or what it says makes no sense; `why` is for people.
    std::function<void(Node node, const std::string& why)> lost;
  };

  static Result<std::unique_ptr<Mesh>> start(asio::io_context& loop, const Placement& placement,
                                             const std::string& job, const std::string& token,
                                             Handlers handlers);
  ~Mesh() override;
  Mesh(const Mesh&) = delete;
  Mesh& operator=(const Mesh&) = delete;

  void send(Node to, const mesh::Message& message);
  void send(const std::vector<Node>& to, const mesh::Message& message);
  void send_all(const mesh::Message& message);  // every other node
  void tick();

 private:
  using Tcp = asio::ip::tcp;
  class Socket;
  static constexpr int kMostComplaints = 50;  // of strangers, in the log

  Mesh(asio::io_context& loop, const Placement& placement, const std::string& job,
       const std::string& token, Handlers handlers);
  Result<> listen();
  void accept();
  void adopt(Peers::Connection number, Tcp::socket socket);

  // Peers::Actions
  void call(Node node) override;
  void stop_call(Node node) override;
  void writable(Peers::Connection connection) override;
  void close(Peers::Connection connection) override;
  void received(Node from, std::string message) override;
  void lost(Node node, std::string why) override;
  void complain(const std::string& what) override;

  asio::io_context& loop_;
  std::vector<std::string> addresses_;
  Node self_;
  Handlers handlers_;
  Peers peers_;
  Tcp::acceptor acceptor_;
  bool accepting_ = false;
  int complaints_ = 0;
  Peers::Connection next_ = 1;
  std::map<Node, std::shared_ptr<Tcp::socket>> calls_;
  std::map<Peers::Connection, std::shared_ptr<Socket>> sockets_;
};

}  // namespace stillpoint::supervisor
