#include "criu-glue/container/nft.h"

#include <nftables/libnftables.h>

#include <memory>

namespace stillpoint::container {

namespace {

struct ContextDeleter {
  void operator()(nft_ctx* context) const { nft_ctx_free(context); }
};

std::string first_line(const char* text) {
  const std::string all(text ? text : "");
  return all.substr(0, all.find('\n'));
}

}  // namespace

Result<std::string> run_nft(const std::string& commands) {
  const std::unique_ptr<nft_ctx, ContextDeleter> context(nft_ctx_new(NFT_CTX_DEFAULT));
  if (!context) return fail(ErrorKind::kSystem, "nftables: no context");
  nft_ctx_output_set_flags(context.get(), NFT_CTX_OUTPUT_JSON | NFT_CTX_OUTPUT_NUMERIC_ALL);
  if (nft_ctx_buffer_output(context.get()) != 0 || nft_ctx_buffer_error(context.get()) != 0)
    return fail(ErrorKind::kSystem, "nftables: out of memory");
  if (nft_run_cmd_from_buffer(context.get(), commands.c_str()) != 0)
    return fail(ErrorKind::kSystem,
                "nftables: " + first_line(nft_ctx_get_error_buffer(context.get())));
  const char* out = nft_ctx_get_output_buffer(context.get());
  return std::string(out ? out : "");
}

}  // namespace stillpoint::container
