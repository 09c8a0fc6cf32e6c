package io.anytls.mobile.sample.logic

import io.anytls.mobile.ConfigProblem
import io.anytls.mobile.ConfigSummary
import io.anytls.mobile.Severity
import io.anytls.mobile.TunnelException
import io.anytls.mobile.parseConfig
import java.io.InputStream

/** What came of a text that somebody pasted, shared, opened or followed a link to. */
sealed interface ConfigInput {
    /** There was no text. */
    data object Empty : ConfigInput

    /** It can be used. */
    class Good(
        /** What to start with: holds the password, and is not for the screen. */
        val text: String,
        val summary: ConfigSummary,
    ) : ConfigInput {
        override fun toString(): String = "Good(.., $summary)"
    }

    /** It cannot be used, for all of these reasons; they name paths and never quote a value. */
    data class Bad(val problems: List<ConfigProblem>) : ConfigInput

    companion object {
        /** [shared] may be a JSON config, a link, or a link in the midst of other words. */
        fun read(shared: String): ConfigInput {
            val text = shared.removePrefix(BYTE_ORDER_MARK).trim()
            if (text.isEmpty()) return Empty
            val links = linksIn(text)
            return when (links.size) {
                0 -> parsed(text)
                1 -> parsed(links.single())
                else -> bad(Texts.severalLinks(links.size))
            }
        }

        /** A document's text. One that is longer than a config may be is cut after that, and the parser says so. */
        fun textOf(document: InputStream): String {
            val bytes = ByteArray(MAX_CONFIG_BYTES + 1)
            var filled = 0
            while (filled < bytes.size) {
                val count = document.read(bytes, filled, bytes.size - filled)
                if (count <= 0) break // 0 is against the rules, and might be for ever
                filled += count
            }
            return String(bytes, 0, filled)
        }

        private fun parsed(text: String): ConfigInput = try {
            Good(text, parseConfig(text))
        } catch (e: TunnelException.Config) {
            Bad(e.problems)
        } catch (e: TunnelException) {
            bad(e.failure().userMessage)
        }

        private fun bad(reason: String) = Bad(listOf(ConfigProblem(Severity.ERROR, "", reason)))
    }
}

/** None where the text is more likely a JSON config, whose strings and comments may hold links as well. */
private fun linksIn(text: String): List<String> {
    val first = text.indexOf(SCHEME, ignoreCase = true)
    if (first < 0 || '{' in text.substring(0, first)) return emptyList()
    val links = LINK.findAll(text).map { it.value.trimEnd { char -> char in AFTER_A_LINK } }.toList()
    // Alone on its line: the name at its end may have blanks.
    val isAlone = first == 0 && links.size == 1 && text.lines().size == 1
    return if (isAlone) listOf(text) else links.distinct()
}

private const val SCHEME = "anytls://"
private const val BYTE_ORDER_MARK = "\uFEFF"

/** The core's own limit, docs/config.md. */
private const val MAX_CONFIG_BYTES = 1 shl 20

private val LINK = Regex("$SCHEME\\S+", RegexOption.IGNORE_CASE)

/** What people and programs put behind a link, and what means nothing at the end of one. */
private const val AFTER_A_LINK = "\"'`>)],.;"
