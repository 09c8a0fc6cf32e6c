import AnyTLSMobile
import Foundation

/// What came of a text that somebody pasted, opened or followed a link to.
public enum ConfigInput: Sendable, Hashable {
  /// There was no text.
  case empty
  /// It can be used.
  case good(ReadConfig)
  /// It cannot be used, for all of these reasons; they name paths and never quote a value.
  case bad([ConfigProblem])

  /// `shared` may be a JSON config, a link, or a link in the midst of other words.
  public static func read(_ shared: String) -> ConfigInput {
    let unmarked = shared.unicodeScalars.drop { $0 == byteOrderMark }
    let text = String(unmarked).trimmingCharacters(in: .whitespacesAndNewlines)
    if text.isEmpty { return .empty }
    let links = links(in: text)
    switch links.count {
    case 0: return parsed(text)
    case 1: return parsed(links[0])
    default: return bad(Texts.severalLinks(links.count))
    }
  }

  /// What another app opened this one with; nil when it is not a link to a server.
  public static func read(link: URL) -> ConfigInput? {
    guard link.scheme?.lowercased() == "anytls" else { return nil }
    return read(link.absoluteString)
  }

  /// A document's text. One that is longer than a config may be is cut after that, and the parser says so.
  public static func text(of document: FileHandle) throws -> String {
    let data = try document.read(upToCount: maxConfigBytes + 1) ?? Data()
    return String(decoding: data, as: UTF8.self)
  }

  /// What a saved config says; its text has been through this before.
  public static func summary(of config: VPNConfig?) -> ConfigSummary? {
    guard let config, case .good(let read) = parsed(config.text) else { return nil }
    return read.summary
  }

  private static func parsed(_ text: String) -> ConfigInput {
    do {
      return .good(ReadConfig(text: text, summary: try parseConfig(text: text)))
    } catch TunnelError.Config(let problems) {
      return .bad(problems)
    } catch {
      return bad(sentence(for: error))
    }
  }

  private static func bad(_ reason: String) -> ConfigInput {
    .bad([ConfigProblem(severity: .error, path: "", reason: reason)])
  }
}

/// A config that can be used.
public struct ReadConfig: Sendable, Hashable, CustomStringConvertible, CustomDebugStringConvertible,
  CustomReflectable
{
  /// What to start with: holds the password, and is not for the screen.
  public let text: String
  public let summary: ConfigSummary

  public var description: String { "ReadConfig(.., \(summary))" }
  public var debugDescription: String { description }
  public var customMirror: Mirror { Mirror(self, children: ["summary": summary]) }
}

/// None where the text is more likely a JSON config, whose strings and comments may hold links as well.
private func links(in text: String) -> [String] {
  guard let first = text.range(of: scheme, options: .caseInsensitive) else { return [] }
  if text[..<first.lowerBound].contains("{") { return [] }
  // Alone on its line: the name at its end may have blanks.
  let words = text.split(whereSeparator: \.isWhitespace)
  let found = words.compactMap { word -> String? in
    guard let start = word.range(of: scheme, options: .caseInsensitive)?.lowerBound else { return nil }
    return trimmed(word[start...])
  }
  let isAlone = first.lowerBound == text.startIndex && !text.contains(where: \.isNewline)
  if isAlone, found.count == 1 { return [text] }
  var distinct: [String] = []
  for link in found where !distinct.contains(link) { distinct.append(link) }
  return distinct
}

private func trimmed(_ link: Substring) -> String {
  var link = link
  while let last = link.last, afterALink.contains(last) { link.removeLast() }
  return String(link)
}

private let scheme = "anytls://"
private let byteOrderMark: Unicode.Scalar = "\u{FEFF}"

/// The core's own limit, docs/config.md.
private let maxConfigBytes = 1 << 20

/// What people and programs put behind a link, and what means nothing at the end of one.
private let afterALink = "\"'`>)],.;"
