#if os(Linux)
  import Foundation
  import NetworkExtension
  import XCTest

  @testable import AnyTLSMobile

  /// What the extension says, and who hears of it.
  @MainActor
  final class AnyTLSVPNClientTests: XCTestCase, @unchecked Sendable {
    private let phone = TestPhone()
    private var system: StandInSystem { phone.system }

    override func setUp() async throws {
      StandInSystem.shared.reset()
    }

    func testTheClientAsksTheVPNThatIsThere() async throws {
      let vpn = phone.vpn()
      let client = vpn.client
      let before = await failure { _ = try await client.state() }
      XCTAssertEqual(before?.code, "no_answer")
      try await vpn.save(phone.config("one"))
      let down = await failure { _ = try await client.state() }
      XCTAssertEqual(down?.code, "no_answer")
      try await phone.bringUp(vpn, .paused)
      let state = try await client.state()
      XCTAssertEqual(state, .paused)
    }

    func testAnExtensionThatSaysNothingLeavesTheVPNUp() async throws {
      let vpn = try await phone.savedVPN("one")
      let asked = Notes<Bool>()
      system.onMessage { _, _ in Task { await asked.add(true) } }
      try await vpn.start()
      system.set(.connected)
      try await until("it is asked") { await asked.count == 1 }
      XCTAssertEqual(vpn.state, .up(nil))
      try await vpn.stop()
      try await until("it stops") { vpn.state == .stopping }
    }

    func testAnAnswerThatComesTwiceOrFromAnotherThreadIsFine() async throws {
      let vpn = try await phone.savedVPN("one")
      system.onMessage { _, answer in
        Thread.detachNewThread {
          answer(try? AppReply.state(.connected).data())
          answer(nil)
        }
      }
      try await vpn.start()
      system.set(.connected)
      try await until("it is up") { vpn.state == .up(.connected) }
    }

    // MARK: Listeners

    func testEveryListenerSeesTheNewestState() async throws {
      let vpn = try await phone.savedVPN("one")
      var slow = vpn.states().makeAsyncIterator()
      try await phone.bringUp(vpn)
      var late = vpn.states().makeAsyncIterator()
      let (one, other) = (await slow.next(), await late.next())
      XCTAssertEqual(one, .up(.connected))
      XCTAssertEqual(other, .up(.connected))
    }

    func testStatesEndWithTheVPN() async throws {
      var vpn: AnyTLSVPN? = try await phone.savedVPN("one")
      weak var gone = vpn
      let states = try XCTUnwrap(vpn).states()
      let seen = Notes<VPNState?>()
      let reading = Task {
        for await state in states { await seen.add(state) }
        await seen.add(nil)
      }
      vpn = nil
      try await until("nobody keeps it") { gone == nil }
      try await until("the states end") { await seen.all.last == .some(nil) }
      reading.cancel()
    }
  }
#endif
