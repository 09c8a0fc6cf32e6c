import AnyTLSCore
import Foundation
import TestSupport
import XCTest

/// The whole life of a tunnel, with packets made by hand.
final class LifeTests: XCTestCase {
  private let data = Data("a ping".utf8)

  func testATunnelAnswersPacketsFromItsStartToItsStopAndCountsThem() async throws {
    let names = try NameServer()
    defer { names.stop() }
    try await withTunnel {
      $0.dns = #""server": "tcp://127.0.0.1:\#(names.port)""#
    } body: { rig in
      try rig.tun.send(.ping(from: "172.19.0.1", to: "192.0.2.1", data))
      let pong = try await rig.tun.receive("a pong")
      XCTAssertEqual(pong, .pong(from: "192.0.2.1", to: "172.19.0.1", data))

      let question = DNSMessage.question(id: 4711, "name.example")
      let app = Endpoint("172.19.0.1", 40_000)
      let server = Endpoint("172.19.0.2", 53)
      try rig.tun.send(.udp(from: app, to: server, question))
      let packet = try await rig.tun.receive("an answer")
      let answer = try XCTUnwrap(packet.datagram)
      XCTAssertEqual(answer.from, server)
      XCTAssertEqual(answer.to, app)
      XCTAssertEqual(DNSMessage.id(of: answer.data), 4711)
      XCTAssertEqual(DNSMessage.address(in: answer.data), NameServer.address)

      try await rig.ears.state(.connected)
      let stats = try await eventually("the packets are counted") {
        let stats = rig.tunnel.stats()
        return stats.packets.packetsIn == 2 && stats.packets.packetsOut == 2 ? stats : nil
      }
      XCTAssertEqual(stats.dns.queries, 1)
      XCTAssertEqual(stats.dns.forwarded, 1)
      XCTAssertGreaterThan(stats.packets.bytesIn, 0)
      XCTAssertGreaterThan(stats.pool.dialed, 0)
      XCTAssertTrue((1...stats.memory.limitBytes).contains(stats.memory.heldBytes), "\(stats)")
      XCTAssertTrue(rig.tunnel.sessions().contains { $0.serverVersion == 2 && $0.receivedBytes > 0 })

      await rig.tunnel.stop()
      XCTAssertEqual(rig.tunnel.state(), .stopped)
      XCTAssertFalse(rig.tun.isHeld)
      XCTAssertEqual(rig.tunnel.sessions(), [])
      XCTAssertEqual(rig.tunnel.stats().packets.packetsIn, 2)  // those of the last run
      await rig.tunnel.stop()
    }
  }

  func testPacketsOfIPv6AreAnsweredToo() async throws {
    try await withTunnel { rig in
      try rig.tun.send(.ping(from: "fdfe:dcba:9876::1", to: "2001:db8::1", data))
      let pong = try await rig.tun.receive("a pong")
      XCTAssertEqual(pong, .pong(from: "2001:db8::1", to: "fdfe:dcba:9876::1", data))
    }
  }

  func testAnAppsConnectionInPacketsIsRelayedListedAndReset() async throws {
    guard let address = ownAddress() else { throw XCTSkip("SKIP: no IPv4 address but the loopback's") }
    let echo = try EchoTarget()
    defer { echo.stop() }
    try await withTunnel { rig in
      let to = Endpoint(address, echo.port)
      let socket = AppSocket(rig.tun, from: Endpoint("172.19.0.1", 20_000), to: to)
      try await socket.connect()
      try socket.write(data)
      let back = try await socket.read(data.count)
      XCTAssertEqual(back, data)
      let connection = try await eventually("the bytes are counted") {
        rig.tunnel.connections().first { $0.downBytes == UInt64(self.data.count) }
      }
      XCTAssertEqual(connection.kind, .tcp)
      XCTAssertEqual(connection.destination, "\(address):\(echo.port)")
      XCTAssertTrue(rig.tunnel.closeConnection(id: connection.id))
      try await socket.awaitReset()
    }
  }

  func testAnAppsDatagramsAreRelayed() async throws {
    guard let address = ownAddress() else { throw XCTSkip("SKIP: no IPv4 address but the loopback's") }
    let echo = try UDPEcho()
    defer { echo.stop() }
    try await withTunnel { rig in
      let (from, to) = (Endpoint("172.19.0.1", 20_000), Endpoint(address, echo.port))
      try rig.tun.send(.udp(from: from, to: to, data))
      let answer = try await rig.tun.receive("the datagram's echo") { $0.datagram?.data }
      XCTAssertEqual(answer, data)
    }
  }

  func testPacketsMayComeAndGoInBatchesInsteadOfADescriptor() async throws {
    let server = try TestServer()
    let flow = Flow()
    let tunnel = Tunnel(platform: nil)
    try await tunnel.startWithPackets(config: server.config(), flow: flow)
    for round: UInt8 in 1...2 {
      let data = (0..<8).map { Data([round, $0]) }
      let pings = data.map { IPPacket.ping(from: "172.19.0.1", to: "192.0.2.1", $0).data }
      XCTAssertEqual(try tunnel.handlePackets(packets: pings), 0)
      for data in data {
        let pong = try await flow.packets.take("a pong")
        XCTAssertEqual(IPPacket(pong), .pong(from: "192.0.2.1", to: "172.19.0.1", data))
      }
      flow.failsFromNowOn()
    }
    try await waitUntil("the packets are counted") { tunnel.stats().packets.packetsOut == 16 }
    await tunnel.stop()
    await assertFails("not_started", isRetryable: false) { _ = try tunnel.handlePackets(packets: []) }
    server.stop()
  }

  func testPacketsAreForATunnelThatWasStartedWithThem() async throws {
    try await withTunnel { rig in
      await assertFails("not_started", isRetryable: false) { _ = try rig.tunnel.handlePackets(packets: []) }
    }
  }

  func testASocketOfTheAppsOwnIsRelayedListedCountedAndClosedByItsNumber() async throws {
    let echo = try EchoTarget()
    defer { echo.stop() }
    try await withTunnel { rig in
      let socket = try StreamPair()
      let destination = "127.0.0.1:\(echo.port)"
      let id = try rig.tunnel.connectStream(socket: socket.fd, destination: destination)
      let sent = Data("through the tunnel".utf8)
      try socket.write(sent)
      let received = try await socket.read(sent.count)
      XCTAssertEqual(received, sent)

      let bytes = UInt64(sent.count)
      try await waitUntil("the bytes are counted") { rig.tunnel.stats().traffic.downBytes == bytes }
      let connection = try XCTUnwrap(rig.tunnel.connections().first)
      XCTAssertEqual(connection.id, id)
      XCTAssertEqual(connection.kind, .socket)
      XCTAssertEqual(connection.phase, .open)
      XCTAssertEqual(connection.destination, destination)
      XCTAssertEqual([connection.upBytes, connection.downBytes], [bytes, bytes])
      XCTAssertEqual(rig.tunnel.sessions().map(\.streams).reduce(0, +), 1)

      XCTAssertTrue(rig.tunnel.closeConnection(id: id))
      let rest = try await socket.read(1)
      XCTAssertEqual(rest.count, 0)
      XCTAssertFalse(rig.tunnel.closeConnection(id: id))
      XCTAssertEqual(rig.tunnel.connections(), [])
      try await waitUntil("the end is counted") {
        let traffic = rig.tunnel.stats().traffic
        return traffic.closedConnections == 1 && traffic.totalConnections == 1 && traffic.openConnections == 0
      }
      try await waitUntil("the socket is let go") { !socket.isHeld }
    }
  }

  func testLatencyIsMeasuredStepByStep() async throws {
    let echo = try EchoTarget()
    defer { echo.stop() }
    try await withTunnel { rig in
      let report = try await rig.tunnel.testLatency(destination: "127.0.0.1:\(echo.port)")
      for step in [report.tcp, report.tls, report.firstStream, report.warmStream] {
        XCTAssertGreaterThan(step, 0, "\(report)")
      }
    }
  }

  func testAReloadChangesTheServerAndLeavesTheTUNAlone() async throws {
    let echo = try EchoTarget()
    defer { echo.stop() }
    try await withTunnel {
      $0.port = try deadPort()
    } body: { rig in
      try await rig.ears.reconnecting()
      try await rig.tunnel.reload(config: rig.server.config())
      try await rig.ears.state(.connected)
      _ = try await rig.tunnel.testLatency(destination: "127.0.0.1:\(echo.port)")
      XCTAssertTrue(rig.tun.isHeld)
    }
  }

  func testAStoppedTunnelStartsWithAnotherTUN() async throws {
    try await withTunnel { rig in
      await rig.tunnel.stop()
      let another = try TestTun()
      try await rig.tunnel.start(config: rig.server.uri, tun: another.fd)
      try another.send(.ping(from: "172.19.0.1", to: "192.0.2.1", data))
      let pong = try await another.receive()
      XCTAssertEqual(pong, .pong(from: "192.0.2.1", to: "172.19.0.1", data))
      await rig.tunnel.stop()
      XCTAssertFalse(another.isHeld)
    }
  }
}

/// Keeps the packets for apps; throws when told to, after it has kept them.
private final class Flow: PacketFlow, @unchecked Sendable {
  let packets = Collector<Data>()
  private let lock = NSLock()
  private var fails = false

  func failsFromNowOn() { lock.withLock { fails = true } }

  func writePackets(packets: [Data]) throws {
    self.packets.add(packets)
    if lock.withLock({ fails }) { throw OnPurpose() }
  }
}
