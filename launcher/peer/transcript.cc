#include "launcher/peer/transcript.h"

#include <blake3.h>
#include <sys/random.h>

#include <cerrno>
#include <cstdlib>
#include <initializer_list>

namespace stillpoint::peer {

namespace {

std::string digest(const char* context, const Transcript& t) {
  blake3_hasher hasher;
  ::blake3_hasher_init_derive_key(&hasher, context);
  const auto number = [&](uint64_t value) {
    for (int i = 0; i < 8; i++) {
      const auto byte = static_cast<unsigned char>(value >> (8 * i));
      ::blake3_hasher_update(&hasher, &byte, 1);
    }
  };
  for (const Versions* v : {&t.challenge.versions(), &t.hello.versions()}) {
    number(v->least());
    number(v->most());
  }
  number(t.version);
  // Each with its length in front: no two transcripts give the same bytes.
  for (const std::string* text : {&t.challenge.nonce(), &t.hello.nonce(), &t.server}) {
    number(text->size());
    ::blake3_hasher_update(&hasher, text->data(), text->size());
  }
  std::string out(BLAKE3_OUT_LEN, '\0');
  ::blake3_hasher_finalize(&hasher, reinterpret_cast<uint8_t*>(out.data()), out.size());
  return out;
}

}  // namespace

std::string Transcript::of_client() const {
  return digest("stillpoint 2026-11-21 peer handshake: client to server", *this);
}
std::string Transcript::of_server() const {
  return digest("stillpoint 2026-11-21 peer handshake: server to client", *this);
}

std::string random_nonce() {
  std::string nonce(kNonceBytes, '\0');
  ssize_t n;
  do n = ::getrandom(nonce.data(), nonce.size(), 0);
  while (n < 0 && errno == EINTR);
  // Up to 256 bytes come whole, on every kernel that we run on.
  if (n != static_cast<ssize_t>(nonce.size())) std::abort();
  return nonce;
}

}  // namespace stillpoint::peer
