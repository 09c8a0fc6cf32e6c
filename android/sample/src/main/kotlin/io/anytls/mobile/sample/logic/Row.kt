package io.anytls.mobile.sample.logic

import io.anytls.mobile.ConnectionInfo
import io.anytls.mobile.ConnectionKind
import io.anytls.mobile.ConnectionPhase
import io.anytls.mobile.SessionInfo

/** A line of a list, and a smaller one below it. [connection] is what can be closed there. */
data class Row(val title: String, val detail: String, val connection: ULong? = null)

/** The newest first: what the user has just begun is at the top. */
fun sessionRows(sessions: List<SessionInfo>): List<Row> = sessions.asReversed().map {
    val idle = it.idle
    val use = if (idle == null) Texts.streams(it.streams) else Texts.idleFor(Format.span(idle))
    val detail = listOf(
        Texts.roundTrip(Format.time(it.roundTrip)),
        Texts.age(Format.span(it.age)),
        "↑ ${Format.bytes(it.sentBytes)}",
        "↓ ${Format.bytes(it.receivedBytes)}",
    )
    Row(Texts.session(it.seq, use), detail.joinToString(" · "))
}

/** The newest first. */
fun connectionRows(connections: List<ConnectionInfo>): List<Row> = connections.asReversed().map {
    val kind = when (it.kind) {
        ConnectionKind.TCP -> "TCP"
        ConnectionKind.UDP -> "UDP"
        ConnectionKind.SOCKET -> Texts.SOCKET
        ConnectionKind.ASSOCIATION -> Texts.ASSOCIATION
    }
    val phase = when (it.phase) {
        ConnectionPhase.OPENING -> Texts.OPENING
        ConnectionPhase.OPEN -> Format.span(it.age)
    }
    val detail = listOf(phase, "↑ ${Format.bytes(it.upBytes)}", "↓ ${Format.bytes(it.downBytes)}")
    Row("$kind ${it.destination}", detail.joinToString(" · "), it.id)
}
