import AnyTLSMobile
import Foundation

/// The screen for the config: the one in use, and one that is offered. Whatever it comes from, an offer is shown first,
/// without its password, and nothing changes before the user takes it: links and other apps can only offer.
public struct ConfigForm: Sendable, Hashable {
  /// What the user types or has pasted. A link from outside is never in here, since it would show its password.
  public private(set) var draft = ""
  /// The server of the config in use.
  public private(set) var present: [String] = []
  private var saved: VPNConfig?
  private var input: ConfigInput?
  private var remark: String?

  public init() {}

  public var hasPresent: Bool { saved != nil }

  /// The one in use has been read, or is another now.
  public mutating func show(saved: VPNConfig?) {
    self.saved = saved
    let summary = ConfigInput.summary(of: saved)
    present = [summary.map { Server($0).description } ?? Texts.noServer]
  }

  public mutating func type(_ text: String) {
    if text == draft { return }
    (draft, remark) = (text, nil)
    let read = ConfigInput.read(text)
    input = read == .empty ? nil : read
  }

  /// From the clipboard; nil when there is no text in it.
  public mutating func paste(_ text: String?) {
    if let text { offer(.read(text)) } else { say(Texts.nothingToPaste) }
  }

  /// From a document; nil when it could not be read.
  public mutating func open(_ text: String?) {
    if let text { offer(.read(text)) } else { say(Texts.unreadable) }
  }

  /// Whether it is a link to a server, to be shown to the user.
  public mutating func follow(_ link: URL) -> Bool {
    guard let read = ConfigInput.read(link: link) else { return false }
    offer(read)
    return true
  }

  /// Instead of an offer: there is none from now on.
  public mutating func say(_ text: String) {
    (draft, input, remark) = ("", nil, text)
  }

  /// What was offered is in use now.
  public mutating func taken() {
    (draft, input, remark) = ("", nil, nil)
  }

  /// What the offer would do, or all that is wrong with it.
  public var offered: [String] {
    if let remark { return [remark] }
    switch input {
    case nil: return []
    case .empty: return [Texts.emptyInput]
    case .bad(let problems): return [Texts.cannotBeUsed] + problemLines(problems)
    case .good(let read): return describe(read.summary)
    }
  }

  /// What the user would take; nil when there is nothing that can be used. The choices for the VPN stay.
  public var offer: VPNConfig? {
    guard case .good(let read) = input else { return nil }
    return VPNConfig(text: read.text, options: saved?.options ?? VPNOptions())
  }

  public var takeTitle: String { hasPresent ? Texts.replace : Texts.use }

  private mutating func offer(_ read: ConfigInput) {
    (draft, input, remark) = ("", read, nil)
  }
}
