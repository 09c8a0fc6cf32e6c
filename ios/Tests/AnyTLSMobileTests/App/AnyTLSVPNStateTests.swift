#if os(Linux)
  import Foundation
  import NetworkExtension
  import XCTest

  @testable import AnyTLSMobile

  /// On and off.
  @MainActor
  final class AnyTLSVPNStateTests: XCTestCase, @unchecked Sendable {
    private let phone = TestPhone()
    private var system: StandInSystem { phone.system }

    override func setUp() async throws {
      StandInSystem.shared.reset()
    }

    func testALife() async throws {
      let vpn = try await phone.savedVPN("one")
      let seen = Notes<VPNState>()
      let reading = Task { for await state in vpn.states() { await seen.add(state) } }
      func see(_ state: VPNState) async throws {
        try await until("\(state)") { await seen.all.last == state }
      }
      try await see(.stopped)
      try await vpn.start()
      try await see(.starting)
      system.set(.connected)
      try await see(.up(nil))
      phone.answer(.connecting)
      await vpn.refresh()
      try await see(.up(.connecting))
      phone.answer(.connected)
      system.set(.reasserting)
      try await see(.up(.connected))
      try await vpn.stop()
      try await see(.stopping)
      system.set(.disconnected)
      try await see(.stopped)
      reading.cancel()
      let all = await seen.all
      XCTAssertEqual(
        all, [.stopped, .starting, .up(nil), .up(.connecting), .up(.connected), .stopping, .stopped])
    }

    func testAVPNThatIsUpAlreadyIsSeen() async throws {
      let first = try await phone.savedVPN("one")
      try await phone.bringUp(first)
      let vpn = phone.vpn()
      XCTAssertEqual(vpn.state, .stopped)
      try await vpn.load()
      XCTAssertEqual(vpn.state, .up(nil))
      try await until("the extension has said") { vpn.state == .up(.connected) }
      try await vpn.start()
      XCTAssertEqual(system.starts.count, 1)
    }

    func testALoadWhileItIsUpLosesNothing() async throws {
      let vpn = try await phone.savedVPN("one")
      try await phone.bringUp(vpn)
      let seen = Notes<VPNState>()
      let reading = Task { for await state in vpn.states() { await seen.add(state) } }
      try await until("it is seen") { await seen.count == 1 }
      try await vpn.load()
      system.set(.disconnecting)
      try await until("it stops") { vpn.state == .stopping }
      system.set(.disconnected)
      try await until("it has stopped") { await seen.all.last == .stopped }
      reading.cancel()
      let first = await seen.all.first
      XCTAssertEqual(first, .up(.connected))
    }

    func testStartAndAwaitReturnsWhenTheInterfaceIsThere() async throws {
      let vpn = try await phone.savedVPN("one")
      let starting = Task { try await vpn.startAndAwait() }
      try await until("it starts") { self.system.starts.count == 1 }
      XCTAssertEqual(system.starts.first.flatMap { $0 }, nil)
      system.set(.connected)
      let state = try await starting.value
      XCTAssertEqual(state, .up(nil))
    }

    func testStartAndAwaitSaysWhyTheExtensionFailed() async throws {
      let vpn = try await phone.savedVPN("one")
      let why = VPNFailure.settingsRefused("no address")
      let starting = Task { try await vpn.startAndAwait() }
      try await until("it starts") { self.system.starts.count == 1 }
      system.set(.disconnecting)
      let error = why as NSError
      system.set(
        .disconnected, error: NSError(domain: error.domain, code: error.code, userInfo: error.userInfo))
      let state = try await starting.value
      XCTAssertEqual(state, .failed(why))
    }

    func testAStartThatHasFailedBeforeItIsSeenIsNotWaitedForForEver() async throws {
      let time = TestTime()
      let why = VPNFailure.settingsRefused("no address")
      let observer = NotificationCenter.default.addObserver(
        forName: .NEVPNStatusDidChange, object: nil, queue: nil
      ) { _ in StandInSystem.shared.set(.disconnected, error: why) }
      defer { NotificationCenter.default.removeObserver(observer) }
      let vpn = AnyTLSVPN(
        providerBundleIdentifier: TestPhone.identifier, store: ConfigStore(secrets: phone.secrets),
        pause: time.pause)
      try await vpn.save(phone.config("one"))
      try await vpn.start()
      for _ in 0..<100 { await Task.yield() }
      XCTAssertEqual(vpn.state, .starting)
      var pauses = time.waiting.makeAsyncIterator()
      await pauses.next()?.end()
      try await until("it has failed") { vpn.state == .failed(why) }
    }

    func testAnEndOfAnotherOriginHasFailed() async throws {
      let vpn = try await phone.savedVPN("one")
      try await phone.bringUp(vpn)
      let error = NSError(
        domain: "NEVPNConnectionErrorDomain", code: 14, userInfo: [NSLocalizedDescriptionKey: "It crashed."])
      system.set(.disconnected, error: error)
      let failure = VPNFailure.system("NEVPNConnectionErrorDomain 14: It crashed.")
      try await until("it has failed") { vpn.state == .failed(failure) }
    }

    func testTurnedOffInTheSettingsIsNoFailure() async throws {
      let vpn = try await phone.savedVPN("one")
      try await phone.bringUp(vpn)
      system.set(.disconnecting)
      system.set(.disconnected)
      try await until("it has stopped") { vpn.state == .stopped }
    }

    func testCancellingStartAndAwaitTurnsTheVPNOff() async throws {
      let vpn = try await phone.savedVPN("one", onDemand: .always)
      let starting = Task { try await vpn.startAndAwait() }
      try await until("it starts") { self.system.starts.count == 1 }
      starting.cancel()
      let result = await starting.result
      XCTAssertThrowsError(try result.get()) { XCTAssertTrue($0 is CancellationError, "\($0)") }
      XCTAssertTrue(system.history.contains("stop"))
      XCTAssertEqual(system.saved.first?.isOnDemandEnabled, false)
    }

    func testAStartWithAConfigIsForThisRun() async throws {
      let vpn = try await phone.savedVPN("one")
      try await vpn.start(phone.config("two"))
      XCTAssertEqual(try VPNConfig(startOptions: system.starts.first.flatMap { $0 }), phone.config("two"))
      XCTAssertEqual(try vpn.savedConfig(), phone.config("one"))
    }

    func testAStartThatTheSystemRefusesHasFailed() async throws {
      let vpn = try await phone.savedVPN("one")
      system.fail(.start, with: NEVPNError(.configurationInvalid))
      let thrown = await failure { _ = try await vpn.startAndAwait() }
      XCTAssertEqual(thrown?.code, "store")
      XCTAssertEqual(vpn.state, .failed(thrown))
      try await vpn.start()
      XCTAssertEqual(system.starts.count, 1)
    }

    func testAStartWaitsForTheStopBefore() async throws {
      let vpn = try await phone.savedVPN("one")
      try await phone.bringUp(vpn)
      try await vpn.stop()
      try await until("it stops") { vpn.state == .stopping }
      let starting = Task { try await vpn.startAndAwait() }
      for _ in 0..<100 { await Task.yield() }
      XCTAssertEqual(system.starts.count, 1)
      system.set(.disconnected)
      try await until("it starts") { self.system.starts.count == 2 }
      system.set(.connected)
      let state = try await starting.value
      XCTAssertEqual(state, .up(nil))
    }

    func testStopAndAwaitWaitsForTheEnd() async throws {
      let vpn = try await phone.savedVPN("one")
      try await vpn.stopAndAwait()
      try await phone.bringUp(vpn)
      let stopping = Task {
        try await vpn.stopAndAwait()
        return vpn.state
      }
      try await until("it stops") { vpn.state == .stopping }
      system.set(.disconnected)
      let state = try await stopping.value
      XCTAssertEqual(state, .stopped)
    }

    func testAStopThatComesBeforeTheFirstLoadStops() async throws {
      let first = try await phone.savedVPN("one", onDemand: .always)
      try await phone.bringUp(first)
      let vpn = phone.vpn()
      try await vpn.stopAndAwaitEnd(on: system)
      XCTAssertEqual(system.saved.first?.isOnDemandEnabled, false)
      XCTAssertTrue(system.history.contains("stop"))
    }

    func testAVPNThatTheUserHasDeselectedIsEnabledAgain() async throws {
      let vpn = try await phone.savedVPN("one")
      system.change { $0.isEnabled = false }
      try await vpn.start()
      XCTAssertEqual(system.saved.first?.isEnabled, true)
      XCTAssertEqual(system.starts.count, 1)
    }

    // MARK: On-demand

    func testStopTurnsOnDemandOffBeforeAndStartTurnsItOn() async throws {
      let vpn = try await phone.savedVPN("one", onDemand: .always)
      try await phone.bringUp(vpn)
      let before = system.history.count
      try await vpn.stopAndAwaitEnd(on: system)
      XCTAssertEqual(Array(system.history.dropFirst(before)), ["load", "save", "stop"])
      XCTAssertEqual(system.saved.first?.isOnDemandEnabled, false)
      XCTAssertEqual(vpn.onDemand, .always)
      try await vpn.start()
      XCTAssertEqual(system.saved.first?.isOnDemandEnabled, true)
    }

    func testAStopTurnsOffOnDemandThatTheUserTurnedOnMeanwhile() async throws {
      let vpn = try await phone.savedVPN(
        "one", onDemand: OnDemand(isEnabled: false, rules: OnDemand.always.rules))
      try await phone.bringUp(vpn)
      system.change { $0.isOnDemandEnabled = true }
      try await vpn.stopAndAwaitEnd(on: system)
      XCTAssertEqual(system.saved.first?.isOnDemandEnabled, false)
    }

    func testASaveDoesNotWakeOnDemandThatWasPutToRest() async throws {
      let vpn = try await phone.savedVPN("one", onDemand: .always)
      try await vpn.stop()
      try await vpn.save(phone.config("two"))
      XCTAssertEqual(vpn.onDemand, .always)
      XCTAssertEqual(system.saved.first?.isOnDemandEnabled, false)
      try await vpn.save(phone.config("two"), onDemand: .off)
      XCTAssertEqual(vpn.onDemand, .off)
      try await vpn.save(phone.config("two"), onDemand: .always)
      XCTAssertEqual(system.saved.first?.isOnDemandEnabled, true)
      try await vpn.save(phone.config("three"))
      XCTAssertEqual(system.saved.first?.isOnDemandEnabled, true)
    }

    func testAStopThatCannotTurnOnDemandOffStopsAllTheSame() async throws {
      let vpn = try await phone.savedVPN("one", onDemand: .always)
      try await phone.bringUp(vpn)
      system.fail(.save, with: NEVPNError(.configurationReadWriteFailed))
      let thrown = await failure { try await vpn.stop() }
      XCTAssertEqual(thrown?.code, "store")
      try await until("it stops") { vpn.state == .stopping }
      XCTAssertEqual(system.saved.first?.isOnDemandEnabled, true)
    }

    func testAStartOfTheSystemIsSeen() async throws {
      let vpn = try await phone.savedVPN("one", onDemand: .always)
      phone.answer(.connected)
      system.set(.connecting)
      try await until("it starts") { vpn.state == .starting }
      system.set(.connected)
      try await until("it is up") { vpn.state == .up(.connected) }
    }
  }

  extension AnyTLSVPN {
    fileprivate func stopAndAwaitEnd(on system: StandInSystem) async throws {
      try await stop()
      system.set(.disconnected)
      try await until("it has stopped") { self.state == .stopped }
    }
  }
#endif
