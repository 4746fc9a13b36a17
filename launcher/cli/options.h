// Boost.Program_options with our errors, for all subcommands.
#pragma once

#include <boost/program_options/options_description.hpp>
#include <boost/program_options/positional_options.hpp>
#include <boost/program_options/variables_map.hpp>
#include <string>

#include "common/error.h"
#include "common/units.h"
#include "launcher/cli/commands.h"

namespace stillpoint::cli {

namespace po = boost::program_options;

struct CommandLine {
  std::string usage;                // "run [options] [--] PROGRAM [ARGUMENTS...]"
  std::string story;                // a few lines for --help
  po::options_description options;  // shown
  po::options_description hidden;   // what stands without a name
  po::positional_options_description positional;
  bool program_follows = false;  // everything from the first word without a dash on is positional

  CommandLine(std::string usage_line, std::string story_lines)
      : usage(std::move(usage_line)), story(std::move(story_lines)), options("Options", 100, 50) {}
};

struct Parsed {
  po::variables_map values;
  bool help = false;  // --help was asked for, and has been printed

  bool has(const char* name) const { return values.count(name) > 0; }
  std::string text(const char* name) const {
    return has(name) ? values[name].as<std::string>() : std::string();
  }
  std::vector<std::string> texts(const char* name) const {
    return has(name) ? values[name].as<std::vector<std::string>>() : std::vector<std::string>();
  }
};

// Adds --help.  kUsage, with a pointer to --help, for everything that does not fit.
Result<Parsed> parse(CommandLine line, const Arguments& arguments);

}  // namespace stillpoint::cli
