package io.anytls.mobile.sample.logic

import io.anytls.mobile.TrafficStats
import io.anytls.mobile.android.Speed

/** The speeds of the last minute, out of counters that only grow. Used by one thread. */
class SpeedHistory(private val spanMs: Long = 60_000) {
    private class Sample(val atMs: Long, val up: Long, val down: Long)

    private val samples = ArrayDeque<Sample>()

    /** [nowMs] is of a clock that only goes forward. Counters that are less than before belong to another run. */
    fun add(traffic: TrafficStats, nowMs: Long) {
        val sample = Sample(nowMs, traffic.upBytes.toLong(), traffic.downBytes.toLong())
        val last = samples.lastOrNull()
        if (last != null && (sample.up < last.up || sample.down < last.down)) samples.clear()
        if (last != null && nowMs <= last.atMs) return
        samples.addLast(sample)
        // The last one before the span stays: the first speed inside is counted from it.
        while (samples.size > 2 && samples[1].atMs <= nowMs - spanMs) samples.removeFirst()
    }

    fun clear() {
        samples.clear()
    }

    /** That of the last second or so; null before there are two counts. */
    val current: Speed?
        get() = if (samples.size < 2) null else speed(samples[samples.size - 2], samples.last())

    /** What to draw at [nowMs]. */
    fun graph(nowMs: Long): SpeedGraphData {
        val bars = samples.zipWithNext { from, to ->
            SpeedBar(x(from.atMs, nowMs), x(to.atMs, nowMs), speed(from, to))
        }.filter { it.to > 0f }
        val peak = bars.maxOfOrNull { maxOf(it.speed.upBytesPerSecond, it.speed.downBytesPerSecond) } ?: 0
        return SpeedGraphData(bars, roundUp(peak))
    }

    private fun x(atMs: Long, nowMs: Long): Float = ((spanMs - (nowMs - atMs)).toFloat() / spanMs).coerceIn(0f, 1f)

    private fun speed(from: Sample, to: Sample): Speed {
        val ms = to.atMs - from.atMs
        return Speed((to.up - from.up) * MS / ms, (to.down - from.down) * MS / ms)
    }

    private companion object {
        const val MS = 1000L
    }
}

/** One speed, from a time to another: 0 is the left edge and the beginning of the span, 1 is now. */
data class SpeedBar(val from: Float, val to: Float, val speed: Speed)

/** What a graph shows, oldest first, on a scale from 0 to [topBytesPerSecond]. */
data class SpeedGraphData(val bars: List<SpeedBar>, val topBytesPerSecond: Long)

/** 1, 2 or 5 and zeros, so that the scale rarely changes; not below what a quiet phone sends anyway. */
private fun roundUp(bytesPerSecond: Long): Long {
    var step = MIN_TOP
    while (true) {
        for (top in listOf(step, step * 2, step * FIVE)) if (top >= bytesPerSecond) return top
        step *= TEN
    }
}

private const val MIN_TOP = 10_000L
private const val TEN = 10
private const val FIVE = 5
