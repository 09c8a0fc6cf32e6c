/// Everything that the app says itself, in English, and in the words of the Android sample. An app with translations
/// moves it into a string catalogue.
public enum Texts {
  public static let appName = "AnyTLS"

  // MARK: States

  public static let off = "Off"
  public static let on = "On"
  public static let starting = "Starting"
  public static let stopping = "Stopping"
  public static let connecting = "Connecting"
  public static let connected = "Connected"
  public static let degraded = "Connected, with trouble"
  public static let reconnecting = "Reconnecting"
  public static let noNetwork = "No network"
  public static let paused = "Paused"
  public static let failed = "Not working"
  public static let addAConfig = "There is no configuration yet."
  public static let noReason = "The system does not say why."
  public static let goesOnWithOne = "It goes on as soon as there is one."
  public static let phoneSleeps = "The phone sleeps."
  public static let trafficBlocked = "Apps are cut off from the network until the switch is turned off."

  static func retry(_ attempt: UInt32, seconds: Int) -> String {
    let failed = attempt == 1 ? "1 try has failed" : "\(attempt) tries have failed"
    return seconds == 0 ? "\(failed), the next one is due." : "\(failed), the next one is in \(seconds) s."
  }

  // MARK: Main screen

  public static let vpn = "VPN"
  public static let config = "Configuration"
  public static let onDemand = "Start by itself"
  public static let traffic = "Sessions and connections"
  public static let log = "Log"
  public static let test = "Test the server"
  public static let testing = "Testing"
  public static let noServer = "No configuration"
  public static let notDone = "That did not work."

  static func totals(_ up: String, _ down: String) -> String { "Sent \(up), received \(down)" }

  static func counts(sessions: UInt64, connections: UInt64) -> String {
    "\(count(sessions, "session")), \(count(connections, "connection"))"
  }

  static func latency(tcp: String, tls: String, first: String, next: String) -> String {
    "TCP \(tcp), TLS \(tls). The first connection takes \(first), another one \(next)."
  }

  static func graph(_ speed: String) -> String { "Speed over the last minute: \(speed)" }

  // MARK: The run before

  public static let lastRun = "The run before this one"
  static let killed = "The system ended it without a word."
  static let killedForMemory = "The system ended it, most likely for its memory."

  static func ended(_ reason: String) -> String { "It ended in good order: \(reason)." }

  static func lastWords(_ state: String, when: String) -> String { "Last written: \(state), \(when)." }

  static func memory(held: String, left: String?) -> String {
    guard let left else { return "The core held \(held)." }
    return "The core held \(held), and \(left) were left."
  }

  static let justNow = "just now"

  static func ago(_ span: String) -> String { "\(span) ago" }

  // MARK: Configuration

  public static let paste = "Paste"
  public static let open = "Open a file"
  public static let use = "Use it"
  public static let replace = "Replace the present one"
  public static let remove = "Remove"
  public static let removeConfig = "Remove the configuration and turn the VPN off?"
  public static let present = "In use"
  public static let offered = "New"
  public static let howToAdd =
    "Type, paste or open an anytls:// link, a JSON config, or a config of sing-box. You can also follow such a link."
  public static let nothingToPaste = "There is no text to paste."
  static let emptyInput = "There is nothing in it."
  public static let unreadable = "The file cannot be read."
  static let cannotBeUsed = "It cannot be used:"
  static let error = "Error"
  static let warning = "Warning"

  static func name(_ name: String) -> String { "Name: \(name)" }

  static func server(_ address: String) -> String { "Server: \(address)" }

  static func severalLinks(_ count: Int) -> String { "one link is expected, and there are \(count)" }

  // MARK: Start by itself

  public static let useRules = "Go by these rules"
  public static let onWifi = "On Wi-Fi"
  public static let onCellular = "On the mobile network"
  public static let trusted = "Off on these Wi-Fi networks"
  public static let networkName = "Name of the network"
  public static let add = "Add"
  public static let save = "Save"
  static let turnOn = "Turn on"
  static let turnOff = "Turn off"
  static let leaveAlone = "Leave as it is"
  public static let onDemandOff = "Only the switch turns the VPN on and off."
  public static let neverTurnsOn = "No rule turns the VPN on."
  public static let onDemandComesBack =
    "An app that wants the network turns the VPN on, unless the switch has turned it off."

  // MARK: Sessions and connections

  public static let close = "Close"
  public static let closeConnection = "Close this connection?"
  public static let nothingOpen = "Nothing is open."
  public static let sessions = "Sessions with the server"
  public static let connections = "Connections of apps"
  static let socket = "Socket"
  static let association = "UDP association"
  static let opening = "opening"

  static func session(_ seq: UInt64, _ use: String) -> String { "Session \(seq), \(use)" }

  static func streams(_ number: UInt32) -> String { count(UInt64(number), "stream") }

  static func idle(for span: String) -> String { "idle for \(span)" }

  static func roundTrip(_ time: String) -> String { "round trip \(time)" }

  static func age(_ span: String) -> String { "\(span) old" }

  // MARK: Log

  public static let copy = "Copy"
  public static let clear = "Clear"
  public static let level = "Level"

  static func missed(_ number: UInt64) -> String {
    "\(count(number, "line")) dropped: the log was faster than the app"
  }

  private static func count(_ number: UInt64, _ noun: String) -> String {
    number == 1 ? "1 \(noun)" : "\(number) \(noun)s"
  }
}
