#include "apps/convert_report.h"

#include <algorithm>
#include <cmath>
#include <map>

#include "apps/bounds_options.h"
#include "apps/common.h"
#include "backends/cpu/cpu.h"
#include "format/output_file.h"
#include "linnet/model.h"
#include "runtime/core/strings.h"
#include "runtime/text/printable.h"

namespace linnet::app {
namespace {

using convert::ConvertReport;

// Names of a file may hold anything.
std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text::printable_line(std::string(text))) switch (c) {
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '&':
        out += "&amp;";
        break;
      case '"':
        out += "&quot;";
        break;
      default:
        out += c;
    }
  return out;
}

constexpr std::string_view kStyle =
    "body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 "
    "1rem;color:#222;background:#fff}"
    "h1{font-size:1.6rem}h2{font-size:1.2rem;margin-top:2rem}table{border-collapse:collapse;width:100%}"
    "th,td{text-align:left;padding:.2rem .6rem;border-bottom:1px solid #ddd}td.n,th.n{text-align:right;"
    "font-variant-numeric:tabular-nums}.wide{overflow-x:auto}svg{width:100%;height:auto}"
    "@media(prefers-color-scheme:dark){body{color:#ddd;background:#181818}th,td{border-color:#444}"
    "svg text,svg line{fill:#ddd;stroke:#999}}";

std::string row(std::initializer_list<std::string> cells, size_t texts, const char* tag = "td") {
  std::string line = "<tr>";
  size_t i = 0;
  for (const std::string& cell : cells) {
    line += strf("<{}{}>{}</{}>", tag, i < texts ? "" : " class=n", cell, tag);
    ++i;
  }
  return line + "</tr>\n";
}

std::string short_number(double value) {
  char text[32];
  std::snprintf(text, sizeof text, "%.3g", value);
  return text;
}

std::string by_type(const ConvertReport& report) {
  struct Totals {
    int tensors = 0;
    uint64_t bytes = 0;
    double worst = 0;
  };
  std::map<std::string, Totals> types;
  for (const auto& t : report.tensors) {
    Totals& of = types[std::string(dtype_name(t.dtype))];
    ++of.tensors;
    of.bytes += t.bytes;
    of.worst = std::max(of.worst, t.error);
  }
  std::string html = "<table>\n" + row({"type", "tensors", "bytes", "largest error"}, 1, "th");
  for (const auto& [type, of] : types)
    html += row({type, std::to_string(of.tensors), human_bytes(of.bytes), short_number(of.worst)}, 1);
  return html + "</table>\n";
}

// A power of ten of bytes.
std::string decimal_bytes(int power) {
  constexpr std::string_view kUnits[] = {"B", "kB", "MB", "GB", "TB"};
  const int unit = std::clamp(power / 3, 0, 4);
  return strf("{} {}", static_cast<int64_t>(std::pow(10, power - 3 * unit)), kUnits[unit]);
}

// Error against bytes, both in powers of ten; a point has its tensor's name as its title.
std::string plot(const ConvertReport& report) {
  double least_bytes = 1e300, most_bytes = 1, least = 1e300, most = 1e-300;
  for (const auto& t : report.tensors) {
    if (t.error <= 0 || t.bytes == 0) continue;
    const auto bytes = static_cast<double>(t.bytes);
    least_bytes = std::min(least_bytes, bytes);
    most_bytes = std::max(most_bytes, bytes);
    least = std::min(least, t.error);
    most = std::max(most, t.error);
  }
  if (least > most) return "<p>Every tensor came over without loss.</p>\n";
  const double left = std::floor(std::log10(least_bytes)), right = std::ceil(std::log10(most_bytes) + 1e-9);
  const double bottom = std::floor(std::log10(least)), top = std::ceil(std::log10(most) + 1e-9);
  constexpr double kWidth = 800, kHeight = 420, kMargin = 60;
  const auto x = [&](double bytes) {
    return kMargin + (kWidth - 2 * kMargin) * (std::log10(bytes) - left) / std::max(right - left, 1.0);
  };
  const auto y = [&](double error) {
    return kHeight - kMargin -
           (kHeight - 2 * kMargin) * (std::log10(error) - bottom) / std::max(top - bottom, 1.0);
  };
  std::string svg = strf("<svg viewBox=\"0 0 {} {}\" role=img aria-label=\"error against bytes\">\n",
                         static_cast<int>(kWidth), static_cast<int>(kHeight));
  const auto label = [&](double px, double py, const std::string& text, const char* anchor) {
    svg += strf("<text x={} y={} font-size=13 stroke=none text-anchor={}>{}</text>\n", fixed(px, 1),
                fixed(py, 1), anchor, text);
  };
  const auto line = [&](double x1, double y1, double x2, double y2) {
    svg += strf("<line x1={} y1={} x2={} y2={} stroke=#bbb />\n", fixed(x1, 1), fixed(y1, 1), fixed(x2, 1),
                fixed(y2, 1));
  };
  for (double e = bottom; e <= top; ++e) {
    line(kMargin, y(std::pow(10, e)), kWidth - kMargin, y(std::pow(10, e)));
    label(kMargin - 6, y(std::pow(10, e)) + 4, strf("1e{}", static_cast<int>(e)), "end");
  }
  for (double b = left; b <= right; ++b) {
    line(x(std::pow(10, b)), kMargin, x(std::pow(10, b)), kHeight - kMargin);
    label(x(std::pow(10, b)), kHeight - kMargin + 18, decimal_bytes(static_cast<int>(b)), "middle");
  }
  label(kWidth / 2, kHeight - 12, "bytes of the tensor", "middle");
  label(kMargin, kMargin - 20, "error of its rounding, squared, as a share of its square", "start");
  std::map<std::string, size_t> colours;
  constexpr std::string_view kColours[] = {"#0b6e99", "#d1495b", "#66a182", "#edae49",
                                           "#6f4e7c", "#8d5a2b", "#555"};
  for (const auto& t : report.tensors) {
    if (t.error <= 0 || t.bytes == 0) continue;
    const std::string type(dtype_name(t.dtype));
    const size_t colour = colours.try_emplace(type, colours.size()).first->second;
    svg += strf("<circle cx={} cy={} r=4 fill-opacity=.7 fill=\"{}\"><title>{} ({})</title></circle>\n",
                fixed(x(static_cast<double>(t.bytes)), 1), fixed(y(t.error), 1),
                kColours[colour % std::size(kColours)], escaped(t.name), type);
  }
  double at = kMargin;
  for (const auto& [type, colour] : colours) {
    svg += strf("<circle cx={} cy=14 r=5 fill=\"{}\" />\n", fixed(at, 1),
                kColours[colour % std::size(kColours)]);
    label(at + 10, 19, type, "start");
    at += 80;
  }
  return svg + "</svg>\n";
}

std::string memory(const convert::ConvertOptions& options) {
  const auto model = Model::open(options.output);
  const auto backend = cpu_backend();
  if (!model || !backend) return {};
  BoundsOptions bounds;
  bounds.threads = options.threads;
  const auto needed = Engine::memory_required((*model)->file(), **backend, engine_options(bounds, {}));
  if (!needed) return {};
  std::string html = "<h2>Memory of one conversation</h2>\n<table>\n";
  html += row({"weights, mapped from the file", human_bytes(needed->weights_bytes)}, 1);
  html += row({"states, fixed whatever its length", human_bytes(needed->state_bytes)}, 1);
  html += row({"activations and scratch", human_bytes(needed->work_bytes)}, 1);
  return html +
         "</table>\n<p>With the options as they are without being given; <code>linnet inspect</code> says "
         "the "
         "same for others.</p>\n";
}

}  // namespace

Result<void> write_report(const std::string& path, bool replace, const convert::ConvertOptions& options,
                          const ConvertReport& report) {
  uint64_t bytes = 0;
  for (const auto& t : report.tensors) bytes += t.bytes;
  const double bits =
      report.parameters > 0 ? 8.0 * static_cast<double>(bytes) / static_cast<double>(report.parameters) : 0;
  const std::string title = escaped(options.output.empty() ? options.source : options.output);
  std::string html = strf(
      "<!doctype html>\n<html lang=en>\n<meta charset=utf-8>\n<meta name=viewport "
      "content=\"width=device-width\">\n<title>{}</title>\n<style>{}</style>\n<h1>{}</h1>\n",
      title, kStyle, title);
  html +=
      strf("<p>{}, {} parameters, from {}: {} of weights, {} bits a weight.{}</p>\n",
           escaped(report.architecture), human_count(report.parameters), escaped(options.source),
           human_bytes(bytes), fixed(bits, 2), options.dry_run ? " A dry run: no model was written." : "");
  html += "<ul>\n";
  for (const std::string& note : report.notes) html += strf("<li>{}</li>\n", escaped(note));
  html += "</ul>\n";
  if (report.expected_kl > 0)
    html += strf(
        "<p>Expected of the chosen types: a KL divergence of {} nats a token on the calibration text, as far "
        "as the errors of single tensors add up.</p>\n",
        short_number(report.expected_kl));
  if (report.tested)
    html += strf(
        "<p>Self test against the unquantised weights, on one sentence: KL divergence {} nats a token, "
        "the same likeliest token at {}% of the positions. <code>linnet eval</code> measures on a "
        "text.</p>\n",
        short_number(report.mean_kl), fixed(100 * report.agreement, 1));
  html += "<h2>By type</h2>\n" + by_type(report);
  html += "<h2>Error against bytes</h2>\n" + plot(report);
  if (!options.dry_run) html += memory(options);
  html +=
      "<h2>Every tensor</h2>\n<p>Errors are squared, as a share of the tensor's square; where a calibration "
      "weighs "
      "columns, both are weighted. Those that lose most stand first.</p>\n<div class=wide><table>\n" +
      row({"tensor", "type", "bytes", "error"}, 2, "th");
  std::vector<ConvertReport::Tensor> tensors = report.tensors;
  std::stable_sort(tensors.begin(), tensors.end(),
                   [](const auto& a, const auto& b) { return a.error > b.error; });
  for (const auto& t : tensors)
    html += row(
        {escaped(t.name), std::string(dtype_name(t.dtype)), human_bytes(t.bytes), short_number(t.error)}, 2);
  html += "</table></div>\n</html>\n";
  LINNET_ASSIGN(format::OutputFile file,
                format::OutputFile::create(path, {.expected_bytes = html.size(), .replace = replace}));
  LINNET_TRY(file.append(std::as_bytes(std::span(html))));
  return file.publish();
}

}  // namespace linnet::app
