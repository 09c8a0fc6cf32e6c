package io.anytls.mobile.sample.logic

import io.anytls.mobile.android.Speed
import java.time.Duration
import java.util.Locale

/** Numbers as people read them. */
object Format {
    /** `0 B`, `1.5 kB`, `312 MB`: powers of 1000, three digits. */
    fun bytes(count: Long): String {
        var value = count.toDouble()
        var unit = 0
        while (value >= LAST_OF_A_UNIT && unit < UNITS.lastIndex) {
            value /= THOUSAND
            unit++
        }
        val digits = if (unit > 0 && value < FIRST_WITHOUT_DIGITS) 1 else 0
        return String.format(Locale.ROOT, "%.${digits}f %s", value, UNITS[unit])
    }

    fun bytes(count: ULong): String = bytes(count.coerceAtMost(Long.MAX_VALUE.toULong()).toLong())

    fun speed(bytesPerSecond: Long): String = "${bytes(bytesPerSecond)}/s"

    fun speed(speed: Speed): String = "↑ ${speed(speed.upBytesPerSecond)}   ↓ ${speed(speed.downBytesPerSecond)}"

    /** `23 ms`, `1.2 s`: for what is measured. */
    fun time(duration: Duration): String {
        val ms = duration.toMillis()
        return if (ms < THOUSAND) "$ms ms" else String.format(Locale.ROOT, "%.1f s", ms / THOUSAND)
    }

    /** `5 s`, `3 min`, `2 h 5 min`: for what lasts. */
    fun span(duration: Duration): String {
        val hours = duration.toHours()
        val minutes = duration.minusHours(hours).toMinutes()
        return when {
            hours > 0 -> "$hours h $minutes min"
            minutes > 0 -> "$minutes min"
            else -> "${duration.seconds} s"
        }
    }

    private val UNITS = listOf("B", "kB", "MB", "GB", "TB", "PB", "EB")

    private const val THOUSAND = 1000.0

    /** From here on it would be rounded to 1000. */
    private const val LAST_OF_A_UNIT = 999.5
    private const val FIRST_WITHOUT_DIGITS = 99.95
}
