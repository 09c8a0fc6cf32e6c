package io.anytls.mobile.android

import io.anytls.mobile.TrafficStats
import org.junit.Assert.assertEquals
import org.junit.Assert.assertNull
import org.junit.Test

class SpeedMeterTest {
    private val meter = SpeedMeter()

    @Test
    fun two_counts_make_a_speed() {
        assertNull(meter.next(traffic(up = 1000, down = 0), nowMs = 10_000))
        assertEquals(Speed(500, 2000), meter.next(traffic(up = 2000, down = 4000), nowMs = 12_000))
        assertEquals(Speed(0, 0), meter.next(traffic(up = 2000, down = 4000), nowMs = 13_000))
    }

    @Test
    fun counts_that_begin_anew_make_none() {
        meter.next(traffic(up = 5000, down = 5000), nowMs = 1000)
        assertNull(meter.next(traffic(up = 10, down = 6000), nowMs = 2000))
        assertEquals(Speed(90, 0), meter.next(traffic(up = 100, down = 6000), nowMs = 3000))
    }

    @Test
    fun no_time_makes_none() {
        meter.next(traffic(up = 0, down = 0), nowMs = 1000)
        assertNull(meter.next(traffic(up = 10, down = 10), nowMs = 1000))
    }

    private fun traffic(up: Int, down: Int) = TrafficStats(up.toULong(), down.toULong(), 0u, 0u, 0u, 0u, 0u)
}
