#if os(Linux)
  import Foundation
  import NetworkExtension
  import XCTest

  @testable import AnyTLSMobile

  final class ConfigStoreTests: XCTestCase {
    private let secrets = TestSecrets()
    private var store: ConfigStore { ConfigStore(secrets: secrets) }
    private let text = "anytls://hunter2@vpn.example/#Home"

    func testTheExtensionFindsWhatTheAppHasKept() throws {
      var config = VPNConfig(text: text)
      config.options.packets = .packetFlow
      let settings = try make(config)
      let inTheExtension = try XCTUnwrap(settings.copy() as? NETunnelProviderProtocol)
      XCTAssertEqual(try store.load(from: inTheExtension), config)
      XCTAssertEqual(ConfigStore.onDemand(of: inTheExtension), .always)
    }

    func testTheSettingsAreThoseOfTheSystem() throws {
      var config = VPNConfig(text: text)
      let settings = try make(config)
      XCTAssertEqual(settings.providerBundleIdentifier, "com.example.tunnel")
      XCTAssertEqual(settings.serverAddress, "vpn.example")
      XCTAssertFalse(settings.disconnectOnSleep)
      XCTAssertFalse(settings.includeAllNetworks)
      XCTAssertTrue(settings.excludeLocalNetworks)
      config.options.includesAllNetworks = true
      config.options.excludesLocalNetworks = false
      let other = try make(config)
      XCTAssertTrue(other.includeAllNetworks)
      XCTAssertFalse(other.excludeLocalNetworks)
    }

    func testNoSecretIsInTheSettings() throws {
      let settings = try make(VPNConfig(text: text))
      let plain = try PropertyListSerialization.data(
        fromPropertyList: settings.providerConfiguration ?? [:], format: .xml, options: 0)
      XCTAssertFalse(String(decoding: plain, as: UTF8.self).contains("hunter2"))
      let reference = try XCTUnwrap(settings.passwordReference)
      XCTAssertFalse(String(decoding: reference, as: UTF8.self).contains("hunter2"))
      XCTAssertEqual(secrets.texts, [text])
    }

    func testNothingKeptIsNoConfig() throws {
      XCTAssertThrowsError(try store.load(from: NETunnelProviderProtocol())) {
        XCTAssertEqual($0 as? VPNFailure, .noConfig)
      }
      let settings = try make(VPNConfig(text: text))
      store.delete(settings)
      XCTAssertEqual(secrets.texts, [])
      XCTAssertThrowsError(try store.load(from: settings)) { XCTAssertEqual($0 as? VPNFailure, .noConfig) }
    }

    func testSettingsOfAnotherVersionAreReadAllTheSame() throws {
      let settings = try make(VPNConfig(text: text))
      settings.providerConfiguration = ["options": 3, "onDemand": "{}"]
      XCTAssertEqual(try store.load(from: settings), VPNConfig(text: text))
      XCTAssertEqual(ConfigStore.onDemand(of: settings), .off)
      settings.providerConfiguration = nil
      XCTAssertEqual(try store.load(from: settings), VPNConfig(text: text))
    }

    func testAStoreThatFailsSaysSo() throws {
      let settings = try make(VPNConfig(text: text))
      secrets.failure = NSError(domain: "locked", code: 5)
      XCTAssertThrowsError(try store.load(from: settings)) {
        XCTAssertEqual(($0 as? VPNFailure)?.code, "store")
      }
      XCTAssertThrowsError(try make(VPNConfig(text: text))) {
        XCTAssertEqual(($0 as? VPNFailure)?.code, "store")
      }
      store.delete(settings)
      secrets.failure = nil
      XCTAssertEqual(secrets.texts, [text])
    }

    private func make(_ config: VPNConfig) throws -> NETunnelProviderProtocol {
      try store.make(
        config, summary: try parseConfig(text: config.text), onDemand: .always,
        providerBundleIdentifier: "com.example.tunnel")
    }
  }

  /// Secrets that can fail, and write down in the system's history what is done.
  final class TestSecrets: SecretStore, @unchecked Sendable {
    private let secrets = MemorySecrets()
    private let lock = NSLock()
    private var error: (any Error)?

    var texts: [String] { secrets.texts }

    var failure: (any Error)? {
      get { lock.withLock { error } }
      set { lock.withLock { error = newValue } }
    }

    func save(_ text: String, of owner: String) throws -> Data {
      try begin("secret saved")
      return try secrets.save(text, of: owner)
    }

    func load(_ reference: Data) throws -> String? {
      if let failure { throw failure }
      return try secrets.load(reference)
    }

    func delete(_ reference: Data) throws {
      try begin("secret deleted")
      try secrets.delete(reference)
    }

    func deleteAll(of owner: String, but reference: Data?) throws {
      try begin("secrets swept")
      try secrets.deleteAll(of: owner, but: reference)
    }

    private func begin(_ call: String) throws {
      if let failure { throw failure }
      StandInSystem.shared.note(call)
    }
  }
#endif
