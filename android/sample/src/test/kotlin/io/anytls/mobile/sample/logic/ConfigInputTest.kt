package io.anytls.mobile.sample.logic

import io.anytls.mobile.Severity
import io.anytls.mobile.sample.logic.ConfigInput.Bad
import io.anytls.mobile.sample.logic.ConfigInput.Good
import org.junit.Assert.assertEquals
import org.junit.Assert.assertFalse
import org.junit.Assert.assertTrue
import org.junit.Test
import java.io.ByteArrayInputStream
import java.io.InputStream
import java.io.SequenceInputStream
import java.util.concurrent.atomic.AtomicInteger

/** With the real parser. */
class ConfigInputTest {
    @Test
    fun a_link_is_read() {
        val good = read<Good>("  anytls://$SECRET@example.com:8443/?sni=a.example#At%20home\n")

        assertEquals("anytls://$SECRET@example.com:8443/?sni=a.example#At%20home", good.text)
        assertEquals("At home", good.summary.name)
        assertEquals("example.com", good.summary.serverHost)
    }

    @Test
    fun a_link_with_blanks_in_its_name_is_read_whole() {
        assertEquals("At home", read<Good>("anytls://$SECRET@example.com#At home").summary.name)
    }

    @Test
    fun a_link_is_found_among_other_words() {
        val message = "Here is my server:\n<anytls://$SECRET@example.com:8443/>.\nHave fun!"

        assertEquals("anytls://$SECRET@example.com:8443/", read<Good>(message).text)
    }

    @Test
    fun the_same_link_twice_is_one() {
        assertEquals("example.com", read<Good>("$LINK $LINK").summary.serverHost)
    }

    @Test
    fun several_links_are_refused() {
        val bad = read<Bad>("anytls://a@one.example and anytls://b@two.example")

        assertEquals(listOf("Error: one link is expected, and there are 2"), problemLines(bad.problems))
    }

    @Test
    fun json_is_read_even_when_it_has_links_in_it() {
        val json = """{ "tag": "anytls://not.this.one", "server": "example.com", "password": "$SECRET" }"""

        assertEquals("anytls://not.this.one", read<Good>("\uFEFF$json").summary.name)
    }

    @Test
    fun all_problems_come_with_their_paths_and_no_value() {
        val json = """{ "server": { "server_port": "$SECRET", "password": ["$SECRET"], "tls": { "alpn": [7] } } }"""
        val problems = read<Bad>(json).problems
        val paths = problems.filter { it.severity == Severity.ERROR }.map { it.path }

        val wrong = listOf("server.server", "server.server_port", "server.password", "server.tls.alpn[0]")
        assertTrue("$paths", paths.containsAll(wrong))
        assertFalse(problemLines(problems).joinToString().contains(SECRET))
    }

    @Test
    fun other_words_are_refused() {
        assertTrue(read<Bad>("hello").problems.isNotEmpty())
    }

    @Test
    fun nothing_is_no_config() {
        assertEquals(ConfigInput.Empty, ConfigInput.read(" \n"))
        assertEquals(ConfigInput.Empty, ConfigInput.read("\uFEFF \n"))
    }

    @Test
    fun what_is_shown_of_a_config_has_no_password_in_it() {
        val good = read<Good>("anytls://$SECRET@[2001:db8::1]:8443/?insecure=1#Home")
        val shown = describe(good.summary)

        assertEquals(listOf("Name: Home", "Server: [2001:db8::1]:8443"), shown.take(2))
        assertTrue("the risk is named", shown.any { it.startsWith("Warning: uri.insecure: ") })
        assertFalse((shown + good.toString() + Server.of(good.summary).toString()).joinToString().contains(SECRET))
    }

    @Test
    fun a_document_is_read_however_it_comes() {
        val bytes = LINK.toByteArray()
        val trickle = object : InputStream() {
            private var next = 0
            override fun read() = if (next < bytes.size) bytes[next++].toInt() else -1
            override fun read(b: ByteArray, off: Int, len: Int): Int {
                val one = read()
                if (one < 0) return -1
                b[off] = one.toByte()
                return 1
            }
        }

        assertEquals(LINK, ConfigInput.textOf(trickle))
    }

    @Test
    fun a_document_without_end_is_refused_by_its_length() {
        val zeros = object : InputStream() {
            override fun read() = ' '.code
        }
        val json = "{".toByteArray()
        val text = ConfigInput.textOf(SequenceInputStream(ByteArrayInputStream(json), zeros))

        assertEquals((1 shl 20) + 1, text.length)
        assertTrue(read<Bad>(text + "}").problems.isNotEmpty())
    }

    @Test
    fun a_document_that_gives_nothing_and_does_not_end_is_left() {
        val reads = AtomicInteger()
        val stuck = object : InputStream() {
            override fun read() = error("in pieces")
            override fun read(b: ByteArray, off: Int, len: Int): Int = if (reads.incrementAndGet() < 1000) 0 else -1
        }

        assertEquals("", ConfigInput.textOf(stuck))
        assertEquals(1, reads.get())
    }

    private inline fun <reified T : ConfigInput> read(text: String): T {
        val input = ConfigInput.read(text)
        assertTrue("$input", input is T)
        return input as T
    }

    private companion object {
        const val SECRET = "s3cret-word"
        const val LINK = "anytls://$SECRET@example.com"
    }
}
