// Frames over a connected stream socket, TCP or Unix, with deadlines.  Never reads beyond the frame
// that is asked for, so that the descriptor can be handed on between two frames.
#pragma once

#include <boost/asio/generic/stream_protocol.hpp>
#include <string>

#include "common/async/event.h"
#include "common/fd.h"
#include "common/wire/peer.pb.h"

namespace stillpoint::peer {

using Socket = asio::generic::stream_protocol::socket;

// Takes a connected descriptor.
Result<Socket> make_socket(const asio::any_io_executor& executor, Fd fd);

// kTimeout at the deadline; kProtocol for a frame of more than `most` bytes, an end in the middle
// of one, or what cannot be parsed; kIo if the other side has closed, or somebody has closed the
// socket.  After an error the socket is of no more use.
Task<Result<Message>> read_message(Socket& socket, size_t most, Deadline deadline);
Task<Result<>> write_message(Socket& socket, const Message& message, Deadline deadline);

// "10.88.0.2:295", the same on both sides of a connection for its server's end; "this node" for a
// Unix socket.
std::string far_end(const Socket& socket);
std::string near_end(const Socket& socket);
bool is_local(const Socket& socket);  // a Unix socket

Message refusal(const Error& error);
Error error_of(const Failure& failure);

}  // namespace stillpoint::peer
