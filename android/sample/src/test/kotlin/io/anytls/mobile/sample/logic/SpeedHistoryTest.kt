package io.anytls.mobile.sample.logic

import io.anytls.mobile.TrafficStats
import io.anytls.mobile.android.Speed
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Assert.assertTrue
import org.junit.Test

class SpeedHistoryTest {
    private val history = SpeedHistory(spanMs = 10_000)

    @Test
    fun a_speed_takes_two_counts() {
        history.add(traffic(up = 500, down = 1000), 0)
        assertNull(history.current)

        history.add(traffic(up = 600, down = 5000), 2000)
        assertEquals(Speed(50, 2000), history.current)
    }

    @Test
    fun bars_move_to_the_left_as_time_goes_by() {
        history.add(traffic(0, 0), 0)
        history.add(traffic(1000, 0), 1000)

        assertEquals(listOf(SpeedBar(0.9f, 1f, Speed(1000, 0))), history.graph(1000).bars)
        assertEquals(listOf(SpeedBar(0f, 0.1f, Speed(1000, 0))), history.graph(10_000).bars)
        assertEquals(emptyList<SpeedBar>(), history.graph(11_000).bars)
    }

    @Test
    fun a_time_without_counts_has_its_average_speed() {
        history.add(traffic(0, 0), 0)
        history.add(traffic(0, 40_000), 8000)

        assertEquals(SpeedBar(0.2f, 1f, Speed(0, 5000)), history.graph(8000).bars.single())
    }

    @Test
    fun counters_that_begin_again_begin_another_history() {
        history.add(traffic(0, 90_000), 0)
        history.add(traffic(0, 95_000), 1000)
        history.add(traffic(0, 10), 2000)

        assertNull(history.current)
        assertEquals(emptyList<SpeedBar>(), history.graph(2000).bars)
    }

    @Test
    fun a_clock_that_stands_still_makes_no_speed() {
        history.add(traffic(0, 0), 1000)
        history.add(traffic(0, 10), 1000)

        assertNull(history.current)
    }

    @Test
    fun hours_keep_no_more_than_the_span() {
        for (second in 0L..10_000) history.add(traffic(0, second), second * 1000)
        val bars = history.graph(10_000_000).bars

        assertEquals(10, bars.size)
        assertEquals(0f, bars.first().from, 0f)
    }

    @Test
    fun the_scale_ends_at_a_round_number_above_the_peak() {
        fun top(bytesPerSecond: Long): Long {
            val history = SpeedHistory()
            history.add(traffic(0, 0), 0)
            history.add(traffic(bytesPerSecond, 0), 1000)
            return history.graph(1000).topBytesPerSecond
        }

        assertEquals(10_000L, history.graph(0).topBytesPerSecond)
        assertEquals(10_000L, top(1))
        assertEquals(20_000L, top(10_001))
        assertEquals(500_000L, top(200_001))
        assertEquals(10_000_000L, top(5_000_001))
        for (power in 0..40) assertTrue(top(1L shl power) >= 1L shl power)
    }

    private fun traffic(up: Long, down: Long) = TrafficStats(up.toULong(), down.toULong(), 0u, 0u, 0u, 0u, 0u)
}
