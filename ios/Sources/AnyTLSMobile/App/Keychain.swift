#if canImport(Security)
  import Foundation
  import Security

  /// Generic passwords in the keychain, readable from the first unlock after a boot on, and on this device alone.
  ///
  /// They are in the first keychain group of the app's entitlements: app and extension must have the capability
  /// Keychain Sharing with the same group, as the first.
  struct Keychain: SecretStore {
    func save(_ text: String, of owner: String) throws -> Data {
      var item = Self.query(of: owner)
      item[kSecAttrAccount] = UUID().uuidString
      item[kSecAttrAccessible] = kSecAttrAccessibleAfterFirstUnlockThisDeviceOnly
      item[kSecValueData] = Data(text.utf8)
      item[kSecReturnPersistentRef] = true
      var reference: CFTypeRef?
      try Self.check(SecItemAdd(item as CFDictionary, &reference))
      guard let reference = reference as? Data else { throw Self.failure(errSecInternalComponent) }
      return reference
    }

    func load(_ reference: Data) throws -> String? {
      var item = Self.query
      item[kSecValuePersistentRef] = reference
      item[kSecReturnData] = true
      let data = try Self.find(item) as? Data
      return data.flatMap { String(data: $0, encoding: .utf8) }
    }

    func delete(_ reference: Data) throws {
      var item = Self.query
      item[kSecValuePersistentRef] = reference
      try Self.delete(item)
    }

    func deleteAll(of owner: String, but reference: Data?) throws {
      var kept: String?
      if let reference {
        guard let account = try account(of: reference) else { return }
        kept = account
      }
      // By account, since a reference may have more than one form.
      for account in try accounts(of: owner) where account != kept {
        var item = Self.query(of: owner)
        item[kSecAttrAccount] = account
        try Self.delete(item)
      }
    }

    private func account(of reference: Data) throws -> String? {
      var item = Self.query
      item[kSecValuePersistentRef] = reference
      item[kSecReturnAttributes] = true
      let attributes = try Self.find(item) as? [String: Any]
      return attributes?[kSecAttrAccount as String] as? String
    }

    private func accounts(of owner: String) throws -> [String] {
      var items = Self.query(of: owner)
      items[kSecMatchLimit] = kSecMatchLimitAll
      items[kSecReturnAttributes] = true
      let found = try Self.find(items) as? [[String: Any]] ?? []
      return found.compactMap { $0[kSecAttrAccount as String] as? String }
    }

    /// The same keychain on a Mac as on a phone.
    private static var query: [CFString: Any] {
      [kSecClass: kSecClassGenericPassword, kSecUseDataProtectionKeychain: true]
    }

    /// The items of an extension; other apps of the team may have the same keychain group.
    private static func query(of owner: String) -> [CFString: Any] {
      query.merging([kSecAttrService: "io.anytls.mobile.config.\(owner)"]) { _, new in new }
    }

    private static func find(_ query: [CFString: Any]) throws -> CFTypeRef? {
      var found: CFTypeRef?
      let status = SecItemCopyMatching(query as CFDictionary, &found)
      if status == errSecItemNotFound { return nil }
      try check(status)
      return found
    }

    private static func delete(_ query: [CFString: Any]) throws {
      let status = SecItemDelete(query as CFDictionary)
      if status != errSecItemNotFound { try check(status) }
    }

    private static func check(_ status: OSStatus) throws {
      if status != errSecSuccess { throw failure(status) }
    }

    private static func failure(_ status: OSStatus) -> VPNFailure {
      let message = SecCopyErrorMessageString(status, nil) as String?
      return .store("keychain: \(message ?? "unknown") (\(status))")
    }
  }
#endif
