import Foundation

/// Where the server is, asked before the VPN is up: later, the question would go into the VPN.
enum ServerAddresses {
  /// Long for a resolver that works; a start should not seem to hang for one that does not.
  static let patience = 2.0

  /// A number as it is, and what the system's resolver says: of an IPv4 number its other form, in a network without
  /// IPv4. Empty for a name when that does not answer in time.
  static func of(_ host: String) async throws -> [String] {
    let family = IPFamily(of: host)
    let itself = family == nil ? [] : [host]
    if family == .v6 { return itself }
    let found = try await within(patience) {
      await withCheckedContinuation { continuation in
        // It may block for long: on a thread of its own, no other work has to wait.
        Thread.detachNewThread { continuation.resume(returning: resolve(host)) }
      }
    }
    return itself + (found ?? []).filter { $0 != host }
  }

  private static func resolve(_ host: String) -> [String] {
    var hints = addrinfo()
    hints.ai_family = AF_UNSPEC
    hints.ai_protocol = Int32(IPPROTO_TCP)
    var list: UnsafeMutablePointer<addrinfo>?
    guard getaddrinfo(host, nil, &hints, &list) == 0 else { return [] }
    defer { freeaddrinfo(list) }
    var addresses: [String] = []
    var next = list
    while let entry = next?.pointee {
      next = entry.ai_next
      guard let address = numeric(entry), !addresses.contains(address) else { continue }
      addresses.append(address)
    }
    return addresses
  }

  private static func numeric(_ entry: addrinfo) -> String? {
    var text = [CChar](repeating: 0, count: Int(NI_MAXHOST))
    let size = socklen_t(text.count)
    guard getnameinfo(entry.ai_addr, entry.ai_addrlen, &text, size, nil, 0, NI_NUMERICHOST) == 0 else {
      return nil
    }
    return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
  }
}
