import Foundation

/// Keeps texts out of the preferences. What is saved is found again by a reference, also in the extension.
protocol SecretStore: Sendable {
  func save(_ text: String, of owner: String) throws -> Data
  /// Nil when there is no such secret, or no longer.
  func load(_ reference: Data) throws -> String?
  /// Fine when there is no such secret.
  func delete(_ reference: Data) throws
  /// Deletes an owner's secrets, except that of the reference.
  func deleteAll(of owner: String, but reference: Data?) throws
}

#if !canImport(Security)
  /// For systems without a keychain: as long as the process lives.
  final class MemorySecrets: SecretStore, @unchecked Sendable {
    static let shared = MemorySecrets()

    private let lock = NSLock()
    private var secrets: [Data: (owner: String, text: String)] = [:]

    var texts: [String] { lock.withLock { secrets.values.map(\.text) } }

    func save(_ text: String, of owner: String) throws -> Data {
      let reference = Data(UUID().uuidString.utf8)
      lock.withLock { secrets[reference] = (owner, text) }
      return reference
    }

    func load(_ reference: Data) throws -> String? {
      lock.withLock { secrets[reference]?.text }
    }

    func delete(_ reference: Data) throws {
      _ = lock.withLock { secrets.removeValue(forKey: reference) }
    }

    func deleteAll(of owner: String, but reference: Data?) throws {
      lock.withLock { secrets = secrets.filter { $0.key == reference || $0.value.owner != owner } }
    }
  }
#endif
