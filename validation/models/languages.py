"""One code a language: the queue, the tars and the models each write it in their own way."""

_ISO_639_1_TO_3 = """
aa:aar ab:abk ae:ave af:afr ak:aka am:amh an:arg ar:ara as:asm av:ava ay:aym az:aze ba:bak be:bel bg:bul bi:bis
bm:bam bn:ben bo:bod br:bre bs:bos ca:cat ce:che ch:cha co:cos cr:cre cs:ces cu:chu cv:chv cy:cym da:dan de:deu
dv:div dz:dzo ee:ewe el:ell en:eng eo:epo es:spa et:est eu:eus fa:fas ff:ful fi:fin fj:fij fo:fao fr:fra fy:fry
ga:gle gd:gla gl:glg gn:grn gu:guj gv:glv ha:hau he:heb hi:hin ho:hmo hr:hrv ht:hat hu:hun hy:hye hz:her ia:ina
id:ind ie:ile ig:ibo ii:iii ik:ipk io:ido is:isl it:ita iu:iku ja:jpn jv:jav ka:kat kg:kon ki:kik kj:kua kk:kaz
kl:kal km:khm kn:kan ko:kor kr:kau ks:kas ku:kur kv:kom kw:cor ky:kir la:lat lb:ltz lg:lug li:lim ln:lin lo:lao
lt:lit lu:lub lv:lav mg:mlg mh:mah mi:mri mk:mkd ml:mal mn:mon mr:mar ms:msa mt:mlt my:mya na:nau nb:nob nd:nde
ne:nep ng:ndo nl:nld nn:nno no:nor nr:nbl nv:nav ny:nya oc:oci oj:oji om:orm or:ori os:oss pa:pan pi:pli pl:pol
ps:pus pt:por qu:que rm:roh rn:run ro:ron ru:rus rw:kin sa:san sc:srd sd:snd se:sme sg:sag sh:hbs si:sin sk:slk
sl:slv sm:smo sn:sna so:som sq:sqi sr:srp ss:ssw st:sot su:sun sv:swe sw:swa ta:tam te:tel tg:tgk th:tha ti:tir
tk:tuk tl:tgl tn:tsn to:ton tr:tur ts:tso tt:tat tw:twi ty:tah ug:uig uk:ukr ur:urd uz:uzb ve:ven vi:vie vo:vol
wa:wln wo:wol xh:xho yi:yid yo:yor za:zha zh:zho zu:zul
"""
"""ISO 639-1 whole, each code with its ISO 639-3 counterpart."""

_ISO_639_3_ONLY = "awa bho brx ceb doi haw hne kok mag mai mni sat sco war yue"
"""Languages without an ISO 639-1 code that some speech model names."""

_ALIASES = {
    # The individual language that transcribers and MMS-LID write where others write the macrolanguage.
    "cmn": "zh",
    "dgo": "doi",
    "fil": "tl",
    "gom": "kok",
    "kmr": "ku",
    "knn": "kok",
    "nb": "no",
    "nob": "no",
    "npi": "ne",
    "ory": "or",
    "swh": "sw",
    "zlm": "ms",
    # Codes that ISO 639 has withdrawn: Whisper writes `jw`, VoxLingua107 both.
    "iw": "he",
    "jw": "jv",
}

_PAIRS = [pair.split(":") for pair in _ISO_639_1_TO_3.split()]
_CANONICAL: dict[str, str] = (
    {code: short for short, long in _PAIRS for code in (short, long)}
    | {code: code for code in _ISO_639_3_ONLY.split()}
    | _ALIASES
)


def canonical(code: str | None) -> str | None:
    """Name a language by the one code that all signals use: ISO 639-1 where there is one, else ISO 639-3.

    Case does not matter; what follows the language in a tag is dropped (``pt-BR``, ``zh_Hant``). Idempotent.

    Returns:
        The code, or None for one that no model can name: nobody can then vote on the language.
    """
    return _CANONICAL.get(code.strip().lower().replace("_", "-").split("-")[0]) if code else None
