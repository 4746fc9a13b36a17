#include "launcher/cli/options.h"

#include <boost/program_options/parsers.hpp>
#include <iostream>

namespace stillpoint::cli {

namespace {

// Program_options would take options behind the program's name as ours.  This style parser, asked
// first for every word, takes all words from the first that is no option (or from behind "--") as
// they are.
std::vector<po::option> program_and_arguments(std::vector<std::string>& words) {
  std::vector<po::option> taken;
  if (words.empty() || (words[0].starts_with("-") && words[0] != "--" && words[0] != "-"))
    return taken;
  if (words[0] == "--") words.erase(words.begin());
  for (const std::string& word : words) {
    po::option option;
    option.value.push_back(word);
    option.original_tokens.push_back(word);
    taken.push_back(option);
  }
  words.clear();
  return taken;
}

std::string first_word(const std::string& usage) {
  return usage.substr(0, usage.find(' '));
}

}  // namespace

Result<Parsed> parse(CommandLine line, const Arguments& arguments) {
  line.options.add_options()("help,h", "this text");
  po::options_description all;
  all.add(line.options).add(line.hidden);
  Parsed parsed;
  try {
    po::command_line_parser parser(arguments);
    parser.options(all).positional(line.positional);
    parser.style(po::command_line_style::unix_style & ~po::command_line_style::allow_guessing);
    if (line.program_follows) parser.extra_style_parser(program_and_arguments);
    po::store(parser.run(), parsed.values);
    if (parsed.values.count("help")) {
      std::cout << "Usage: stillpoint " << line.usage << "\n\n"
                << line.story << "\n"
                << line.options;
      parsed.help = true;
      return parsed;
    }
    po::notify(parsed.values);
  } catch (const po::error& e) {
    return fail(ErrorKind::kUsage, e.what(),
                "see stillpoint " + first_word(line.usage) + " --help");
  }
  return parsed;
}

}  // namespace stillpoint::cli
