#include "launcher/cli/control_client.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "common/fd.h"
#include "common/paths.h"
#include "common/wire/frame.h"
#include "common/wire/versions.h"

namespace stillpoint::cli {

namespace {

Result<Fd> connect_to(const std::string& job) {
  const std::string path = paths::control_socket(job);
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path)
    return fail(ErrorKind::kUsage, path + ": the path is too long");
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd) return fail_errno("socket");
  if (::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0)
    return fd;
  if (errno == ENOENT || errno == ECONNREFUSED)
    return fail(ErrorKind::kNotFound, "no job named " + job + " runs on this node",
                "see stillpoint status");
  return fail_errno(path);
}

Error failure(const control::Failure& f) {
  return Error(static_cast<ErrorKind>(f.kind()), f.what(), f.remedy());
}

}  // namespace

Result<control::Reply> ask(const std::string& job, const control::Request& request,
                           Deadline deadline,
                           const std::function<void(const control::Progress&)>& on_progress) {
  if (auto r = paths::check_job_name(job); !r) return fail(r.error());
  auto socket = connect_to(job);
  if (!socket) return fail(socket.error());
  control::Request versioned = request;
  versioned.set_version(wire::kControlVersion);
  const std::string bytes = wire::frame(versioned.SerializeAsString());
  if (::send(socket->get(), bytes.data(), bytes.size(), MSG_NOSIGNAL) < 0)
    return fail_errno("send");

  wire::FrameReader frames;
  char buffer[16384];
  for (;;) {
    auto payload = frames.next();
    if (!payload) return fail(payload.error());
    if (*payload) {
      control::Reply reply;
      if (!reply.ParseFromString(**payload))
        return fail(ErrorKind::kProtocol, "the job's agent sent an answer that cannot be parsed");
      if (reply.has_failure()) return fail(failure(reply.failure()));
      if (!reply.has_progress()) return reply;
      if (on_progress) on_progress(reply.progress());
      continue;
    }
    pollfd p{socket->get(), POLLIN, 0};
    if (::poll(&p, 1, deadline.poll_timeout()) == 0)
      return fail(ErrorKind::kTimeout, "the agent of job " + job + " did not answer in time");
    const ssize_t n = ::read(socket->get(), buffer, sizeof buffer);
    if (n < 0 && errno == EINTR) continue;
    if (n <= 0) return fail(ErrorKind::kNotFound, "job " + job + " ended before it answered");
    frames.feed({buffer, static_cast<size_t>(n)});
  }
}

}  // namespace stillpoint::cli
