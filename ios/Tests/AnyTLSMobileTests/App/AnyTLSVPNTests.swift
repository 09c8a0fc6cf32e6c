#if os(Linux)
  import Foundation
  import NetworkExtension
  import XCTest

  @testable import AnyTLSMobile

  /// The VPN's place in the system's settings.
  @MainActor
  final class AnyTLSVPNSettingsTests: XCTestCase, @unchecked Sendable {
    private let phone = TestPhone()
    private var system: StandInSystem { phone.system }

    override func setUp() async throws {
      StandInSystem.shared.reset()
    }

    func testTheFirstSavePutsTheVPNIntoTheSettings() async throws {
      let vpn = phone.vpn()
      XCTAssertFalse(vpn.isSaved)
      let onDemand = OnDemand(rules: [.init(.cellular, .connect)])
      try await vpn.save(phone.config("one"), onDemand: onDemand, name: "Home")
      XCTAssertTrue(vpn.isSaved)
      XCTAssertEqual(vpn.onDemand, onDemand)
      XCTAssertEqual(try vpn.savedConfig(), phone.config("one"))
      let saved = try XCTUnwrap(system.saved.first)
      XCTAssertEqual(saved.name, "Home")
      XCTAssertTrue(saved.isEnabled)
      XCTAssertTrue(saved.isOnDemandEnabled)
      XCTAssertEqual(saved.rules?.map(\.interfaceTypeMatch), [.cellular])
      XCTAssertEqual(saved.protocolConfiguration.providerBundleIdentifier, TestPhone.identifier)
      XCTAssertEqual(saved.protocolConfiguration.serverAddress, "one.example")
      XCTAssertEqual(system.history, ["loadAll", "secret saved", "save", "secrets swept", "load"])
      XCTAssertEqual(vpn.state, .stopped)
    }

    func testTheSettingsShowTheConfigsNameElseTheServer() async throws {
      let vpn = phone.vpn()
      try await vpn.save(VPNConfig(text: "anytls://p@one.example/#Home"))
      XCTAssertEqual(system.saved.first?.name, "Home")
      try await vpn.save(phone.config("two"))
      XCTAssertEqual(system.saved.first?.name, "two.example")
    }

    func testTheOldSecretGoesWhenTheNewOneIsSaved() async throws {
      let vpn = try await phone.savedVPN("one")
      let before = system.history.count
      try await vpn.save(phone.config("two"))
      XCTAssertEqual(
        Array(system.history.dropFirst(before)), ["loadAll", "secret saved", "save", "secrets swept", "load"])
      XCTAssertEqual(phone.secrets.texts, [phone.config("two").text])
      XCTAssertEqual(system.saved.count, 1)
      XCTAssertEqual(try vpn.savedConfig(), phone.config("two"))
    }

    func testASaveThatFailsLeavesEverythingAsItWas() async throws {
      let vpn = try await phone.savedVPN("one", onDemand: .always)
      system.fail(.save, with: NEVPNError(.configurationReadWriteFailed))
      let thrown = await failure { try await vpn.save(self.phone.config("two"), name: "Other") }
      XCTAssertEqual(thrown?.code, "store")
      XCTAssertEqual(phone.secrets.texts, [phone.config("one").text])
      XCTAssertEqual(try vpn.savedConfig(), phone.config("one"))
      XCTAssertEqual(vpn.onDemand, .always)
      try await vpn.start()
      XCTAssertEqual(system.saved.first?.name, "one.example")
      XCTAssertEqual(system.saved.first?.isOnDemandEnabled, true)
    }

    func testAUserWhoRefusesLeavesNoSecretBehind() async throws {
      let vpn = phone.vpn()
      system.fail(.save, with: NEVPNError(.configurationReadWriteFailed))
      let thrown = await failure { try await vpn.save(self.phone.config("one")) }
      XCTAssertEqual(thrown?.code, "store")
      XCTAssertEqual(phone.secrets.texts, [])
      XCTAssertFalse(vpn.isSaved)
      XCTAssertNil(try vpn.savedConfig())
    }

    func testWhatIsSavedStaysWhenItCannotBeLoadedAgain() async throws {
      let vpn = try await phone.savedVPN("one")
      system.fail(.load, with: NEVPNError(.configurationReadWriteFailed))
      let thrown = await failure { try await vpn.save(self.phone.config("two")) }
      XCTAssertEqual(thrown?.code, "store")
      XCTAssertEqual(phone.secrets.texts, [phone.config("two").text])
      XCTAssertEqual(try vpn.savedConfig(), phone.config("two"))
      try await vpn.start()
    }

    func testASecretThatCannotBeSavedChangesNothing() async throws {
      let vpn = try await phone.savedVPN("one")
      phone.secrets.failure = NSError(domain: "locked", code: 1)
      let before = system.history
      let thrown = await failure { try await vpn.save(self.phone.config("two")) }
      XCTAssertEqual(thrown?.code, "store")
      XCTAssertEqual(system.history, before + ["loadAll"])
      phone.secrets.failure = nil
      XCTAssertEqual(try vpn.savedConfig(), phone.config("one"))
    }

    func testABadConfigIsNotSaved() async throws {
      let vpn = phone.vpn()
      let thrown = await failure { try await vpn.save(VPNConfig(text: #"{"hunter2":1}"#)) }
      guard case .badConfig(let problems) = thrown else { return XCTFail("\(thrown as Any)") }
      XCTAssertFalse(problems.isEmpty)
      XCTAssertEqual(system.history, [])
    }

    func testOfTwoSavesAtOnceOneSecretStays() async throws {
      let vpn = phone.vpn()
      async let one: Void = vpn.save(phone.config("one"))
      async let two: Void = vpn.save(phone.config("two"))
      _ = try await (one, two)
      XCTAssertEqual(system.saved.count, 1)
      XCTAssertEqual(phone.secrets.texts, [try XCTUnwrap(try vpn.savedConfig()).text])
    }

    func testTwoObjectsThatSaveAtOnceMakeOneVPN() async throws {
      let (one, two) = (phone.vpn(), phone.vpn())
      async let first: Void = one.save(phone.config("one"))
      async let second: Void = two.save(phone.config("two"))
      _ = try await (first, second)
      XCTAssertEqual(system.saved.count, 1)
      XCTAssertEqual(phone.secrets.texts, [try phone.vpnConfigOfTheExtension().text])
    }

    func testASaveGoesByWhatTheUserHasChangedMeanwhile() async throws {
      let vpn = try await phone.savedVPN("one", onDemand: .always)
      system.change { $0.isOnDemandEnabled = false }
      try await vpn.save(phone.config("two"))
      XCTAssertEqual(try phone.vpnConfigOfTheExtension(), phone.config("two"))
      XCTAssertEqual(system.saved.first?.isOnDemandEnabled, false)
    }

    func testSecretsThatNobodyRefersToGoWithTheNextSave() async throws {
      let before = try await phone.savedVPN("one")
      try await before.save(phone.config("two"))
      system.reset()  // the app was deleted: the secret stays
      XCTAssertEqual(phone.secrets.texts, [phone.config("two").text])
      let others = phone.config("others").text
      _ = try phone.secrets.save(others, of: "com.example.other")
      let vpn = phone.vpn()
      try await vpn.save(phone.config("three"))
      XCTAssertEqual(Set(phone.secrets.texts), [phone.config("three").text, others])
      XCTAssertEqual(try vpn.savedConfig(), phone.config("three"))
      try await vpn.remove()
      XCTAssertEqual(phone.secrets.texts, [others])
    }

    func testAVPNIsRemovedBeforeTheFirstLoadToo() async throws {
      _ = try await phone.savedVPN("one")
      try await phone.vpn().remove()
      XCTAssertEqual(system.saved.count, 0)
      XCTAssertEqual(phone.secrets.texts, [])
    }

    func testASaveThatIsCancelledIsDoneAllTheSame() async throws {
      let vpn = phone.vpn()
      let saving = Task { try await vpn.save(phone.config("one")) }
      saving.cancel()
      try await saving.value
      XCTAssertEqual(try phone.vpnConfigOfTheExtension(), phone.config("one"))
    }

    func testOnlyTheVPNOfOurExtensionIsOurs() async throws {
      let other = AnyTLSVPN(
        providerBundleIdentifier: "com.example.other", store: ConfigStore(secrets: phone.secrets),
        pause: phone.pause)
      try await other.save(phone.config("other"))
      let vpn = phone.vpn()
      try await vpn.load()
      XCTAssertFalse(vpn.isSaved)
      try await vpn.save(phone.config("one"))
      XCTAssertEqual(system.saved.count, 2)
      let later = phone.vpn()
      try await later.load()
      XCTAssertEqual(try later.savedConfig(), phone.config("one"))
    }

    func testASecondLaunchChangesTheSameVPN() async throws {
      _ = try await phone.savedVPN("one")
      let vpn = phone.vpn()
      try await vpn.save(phone.config("two"))
      XCTAssertEqual(system.saved.count, 1)
      XCTAssertEqual(phone.secrets.texts, [phone.config("two").text])
    }

    func testRemovingLeavesNothing() async throws {
      let vpn = try await phone.savedVPN("one")
      try await phone.bringUp(vpn)
      try await vpn.remove()
      XCTAssertEqual(system.saved.count, 0)
      XCTAssertEqual(phone.secrets.texts, [])
      XCTAssertTrue(system.history.contains("stop"))
      XCTAssertFalse(vpn.isSaved)
      XCTAssertEqual(vpn.state, .stopped)
      try await vpn.remove()
    }

    func testARemovalThatFailsKeepsTheSecret() async throws {
      let vpn = try await phone.savedVPN("one")
      system.fail(.remove, with: NEVPNError(.configurationReadWriteFailed))
      let thrown = await failure { try await vpn.remove() }
      XCTAssertEqual(thrown?.code, "store")
      XCTAssertEqual(try vpn.savedConfig(), phone.config("one"))
    }

    func testAVPNThatTheUserRemovedMeanwhileDoesNotStart() async throws {
      let vpn = try await phone.savedVPN("one")
      system.reset()
      let thrown = await failure { try await vpn.start() }
      XCTAssertEqual(thrown, .noConfig)
      XCTAssertEqual(vpn.state, .failed(.noConfig))
      XCTAssertFalse(vpn.isSaved)
      XCTAssertEqual(system.saved.count, 0)
    }

    func testAVPNThatTheUserRemovedIsGoneAfterTheNextLoad() async throws {
      let vpn = try await phone.savedVPN("one")
      system.reset()
      try await vpn.load()
      XCTAssertFalse(vpn.isSaved)
      let thrown = await failure { try await vpn.start() }
      XCTAssertEqual(thrown, .noConfig)
      XCTAssertEqual(vpn.state, .failed(.noConfig))
    }
  }

  /// An app's side of a phone on which nothing is yet.
  @MainActor
  struct TestPhone {
    nonisolated static let identifier = "com.example.app.tunnel"

    let system = StandInSystem.shared
    let secrets = TestSecrets()
    /// Deadlines never come.
    let pause = TestTime().pause

    nonisolated init() {}

    func vpn() -> AnyTLSVPN {
      AnyTLSVPN(providerBundleIdentifier: Self.identifier, store: ConfigStore(secrets: secrets), pause: pause)
    }

    func config(_ name: String) -> VPNConfig {
      VPNConfig(text: "anytls://hunter2@\(name).example/")
    }

    func savedVPN(_ name: String, onDemand: OnDemand = .off) async throws -> AnyTLSVPN {
      let vpn = vpn()
      try await vpn.save(config(name), onDemand: onDemand)
      return vpn
    }

    /// As the extension reads it.
    func vpnConfigOfTheExtension() throws -> VPNConfig {
      try ConfigStore(secrets: secrets).load(from: try XCTUnwrap(system.saved.first).protocolConfiguration)
    }

    func bringUp(_ vpn: AnyTLSVPN, _ state: TunnelState = .connected) async throws {
      answer(state)
      try await vpn.start()
      system.set(.connected)
      try await until("it is up") { vpn.state == .up(state) }
    }

    /// What the extension says it is doing.
    func answer(_ state: TunnelState) {
      system.onMessage { message, answer in
        let isAsked = (try? AppMessage(data: message)) == .state
        answer(isAsked ? try? AppReply.state(state).data() : nil)
      }
    }
  }
#endif
