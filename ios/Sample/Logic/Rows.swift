import AnyTLSMobile

/// A line of a list, and a smaller one below it.
public struct Row: Sendable, Hashable, Identifiable {
  public let id: UInt64
  public let title: String
  public let detail: String
}

/// The newest first: what the user has just begun is at the top.
public func sessionRows(_ sessions: [SessionInfo]) -> [Row] {
  sessions.reversed().map { session in
    let use = session.idle.map { Texts.idle(for: Format.span($0)) } ?? Texts.streams(session.streams)
    let detail = [
      Texts.roundTrip(Format.time(session.roundTrip)),
      Texts.age(Format.span(session.age)),
      "↑ " + Format.bytes(session.sentBytes),
      "↓ " + Format.bytes(session.receivedBytes),
    ]
    return Row(
      id: session.seq, title: Texts.session(session.seq, use), detail: detail.joined(separator: " · "))
  }
}

/// The newest first; the id is what to close.
public func connectionRows(_ connections: [ConnectionInfo]) -> [Row] {
  connections.reversed().map { connection in
    let detail = [
      phase(connection),
      "↑ " + Format.bytes(connection.upBytes),
      "↓ " + Format.bytes(connection.downBytes),
    ]
    return Row(
      id: connection.id,
      title: "\(kind(connection)) \(connection.destination)",
      detail: detail.joined(separator: " · "))
  }
}

private func kind(_ connection: ConnectionInfo) -> String {
  switch connection.kind {
  case .tcp: return "TCP"
  case .udp: return "UDP"
  case .socket: return Texts.socket
  case .association: return Texts.association
  }
}

private func phase(_ connection: ConnectionInfo) -> String {
  switch connection.phase {
  case .opening: return Texts.opening
  case .open: return Format.span(connection.age)
  }
}
