package io.anytls.mobile.android

import io.anytls.mobile.TrafficStats

/** What goes through the tunnel now. */
public data class Speed(val upBytesPerSecond: Long, val downBytesPerSecond: Long)

/** Makes speeds of counters that only grow; a tunnel that starts anew counts from 0 again. */
internal class SpeedMeter {
    private var last: Sample? = null

    /** Null the first time. [nowMs] is of a clock that only goes forward. */
    fun next(traffic: TrafficStats, nowMs: Long): Speed? {
        val sample = Sample(traffic.upBytes.toLong(), traffic.downBytes.toLong(), nowMs)
        val before = last.also { last = sample } ?: return null
        val (up, down, ms) = Sample(sample.up - before.up, sample.down - before.down, nowMs - before.atMs)
        return if (ms > 0 && up >= 0 && down >= 0) Speed(up * MS / ms, down * MS / ms) else null
    }

    private data class Sample(val up: Long, val down: Long, val atMs: Long)

    private companion object {
        const val MS = 1000L
    }
}
