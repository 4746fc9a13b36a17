#include "launcher/daemon/dispatcher.h"

#include "common/log.h"

namespace stillpoint::daemon {

Task<> answer(peer::Connection& connection, Result<peer::Reply> reply) {
  peer::Message message;
  if (reply)
    *message.mutable_reply() = std::move(*reply);
  else
    *message.mutable_reply()->mutable_failure() = peer::refusal(reply.error()).refusal();
  const auto deadline = Deadline::in(kRequestTime);
  if (auto r = co_await connection.send(std::move(message), deadline); !r)
    log::debug("answering " + r.error().line());
  (void)co_await connection.close(deadline);
}

Task<> Dispatcher::serve(std::unique_ptr<peer::Connection> connection) {
  auto message = co_await connection->receive(Deadline::in(kRequestTime));
  if (!message || !*message) {
    log::debug(connection->party().where + ": no request came" +
               (message ? std::string() : ": " + message.error().line()));
    co_return;
  }
  peer::Request request = (*message)->request();
  const auto handler = handlers_.find(request.body_case());
  if (handler == handlers_.end())
    co_await answer(*connection, fail(ErrorKind::kProtocol,
                                      std::string("this stillpointd (") + STILLPOINT_VERSION +
                                          ") does not know what is asked of it",
                                      "install the same release of Stillpoint on all nodes"));
  else
    co_await handler->second(std::move(connection), std::move(request));
}

}  // namespace stillpoint::daemon
