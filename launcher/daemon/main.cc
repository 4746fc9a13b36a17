// stillpointd [--foreground] [--config FILE]
#include <unistd.h>

#include <boost/program_options/options_description.hpp>
#include <boost/program_options/parsers.hpp>
#include <boost/program_options/variables_map.hpp>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <iostream>

#include "common/log.h"
#include "common/paths.h"
#include "launcher/daemon/daemon.h"
#include "launcher/daemon/service.h"

namespace stillpoint::daemon {
namespace {

namespace po = boost::program_options;

int complain(const Error& error) {
  log::error(error);
  return error.exit_status();
}

Result<po::variables_map> parse(int argc, char** argv, const po::options_description& options) {
  po::variables_map values;
  try {
    const auto style = po::command_line_style::unix_style & ~po::command_line_style::allow_guessing;
    const po::positional_options_description none;
    po::store(
        po::command_line_parser(argc, argv).options(options).positional(none).style(style).run(),
        values);
    po::notify(values);
  } catch (const po::error& e) {
    return fail(ErrorKind::kUsage, e.what(), "see stillpointd --help");
  }
  return values;
}

int serve(const std::string& file, const std::function<void()>& ready) {
  ::signal(SIGPIPE, SIG_IGN);
  asio::io_context io(1);
  auto daemon = Daemon::start(io, file);
  if (!daemon) return complain(daemon.error());
  notify("READY=1");
  ready();
  (*daemon)->run();
  return 0;
}

int run(int argc, char** argv) {
  log::set_name("stillpointd");
  log::set_priorities(logs_to_journal());
  po::options_description options("Options", 100, 50);
  options.add_options()("foreground,f", "stay in the foreground")(
      "config,c", po::value<std::string>(),
      "read this file instead of /etc/stillpoint/stillpoint.conf")("version", "say which this is")(
      "help,h", "this text");
  auto values = parse(argc, argv, options);
  if (!values) return complain(values.error());
  if (values->count("help")) {
    std::cout << "Usage: stillpointd [options]\n\nServes this node to jobs over several nodes.\n\n"
              << options;
    return 0;
  }
  if (values->count("version")) {
    std::printf("stillpointd %s\n", STILLPOINT_VERSION);
    return 0;
  }
  if (::geteuid() != 0) return complain(Error(ErrorKind::kPermission, "stillpointd needs root"));
  const std::string given =
      values->count("config") ? (*values)["config"].as<std::string>() : std::string();
  std::error_code ignored;
  const std::string file =
      given.empty() ? given
                    : paths::absolute(given, std::filesystem::current_path(ignored).string());
  if (values->count("foreground")) return serve(file, [] {});
  auto status = in_background([&](const auto& ready) { return serve(file, ready); });
  return status ? *status : complain(status.error());
}

}  // namespace
}  // namespace stillpoint::daemon

int main(int argc, char** argv) {
  try {
    return stillpoint::daemon::run(argc, argv);
  } catch (const std::exception& e) {
    stillpoint::log::error(std::string("unexpected: ") + e.what());
    return static_cast<int>(stillpoint::ErrorKind::kInternal);
  }
}
