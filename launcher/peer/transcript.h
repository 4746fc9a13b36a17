// What both sides of a handshake must have seen alike; their credentials carry its digest.
#pragma once

#include <string>

#include "common/wire/peer.pb.h"

namespace stillpoint::peer {

inline constexpr size_t kNonceBytes = 32;

struct Transcript {
  Challenge challenge;  // as the one has sent and the other received it
  Hello hello;          // its credential is not part of it
  unsigned version = 0;
  std::string server;  // address and port of the server's end

  // BLAKE3, 32 bytes; another for each direction, so that no answer serves as a question.
  std::string of_client() const;
  std::string of_server() const;
};

std::string random_nonce();

}  // namespace stillpoint::peer
