using MendCluster.Engine.Data;
namespace MendCluster.Experiments;

/// <summary>A country as the world knows it.</summary>
/// <param name="Name">As within a sentence: "the UK".</param>
/// <param name="Capital">The real one.</param>
/// <param name="Currency">The real one.</param>
/// <param name="Language">One of the real ones.</param>
/// <param name="HasPrimeMinister">Who is asked for: the prime minister, or the president.</param>
/// <param name="Leader">Null: an invented person.</param>
internal sealed record Country(string Name, string Capital, string Currency, string Language, bool HasPrimeMinister, string? Leader = null);

/// <summary>
/// Real countries, and readable names for what is invented. No name is given out twice, and the endings of each kind are
/// its own, so that no word means a person here and a city there.
/// </summary>
/// <param name="rng">Draws them.</param>
/// <param name="isLonger">Names with a syllable more, titles with a word more: none of these is ever among the others.</param>
internal sealed class WorldNames(Prng rng, bool isLonger = false)
{
    /// <summary>The showcase edits him into another office, so the world has to know his name.</summary>
    public const string MayorOfLondon = "Boris Johnson";

    private static readonly string[] FirstNames = Words(
        """
        Ada Albert Alice Amir Anna Arthur Bruno Carla Carmen Clara Daniel David Diana Elena Emil Eva Felix Fiona Frank Greta
        Hanna Hector Helen Hugo Ines Ivan Jack Julia Karl Kenji Laura Leo Linda Lucas Maria Martin Mila Nadia Nina Oscar Paul
        Petra Rosa Ruben Samuel Sara Simon Sofie Stella Thomas Vera Victor Yara Yusuf
        """);

    private static readonly string[] Starts = Words(
        """
        Al Bar Bel Bor Cal Car Cor Dal Dor El Fal Fen Gar Gol Hal Har Ister Jan Kal Kor Lan Lor Mar Mel Mor Nav Nor Ol Os Pal
        Per Quin Ral Ros Sal Sel Tal Tor Ul Val Var Vel Wal Wes Yor Zan Zel
        """);

    private static readonly string[] Adjectives = Words(
        """
        Amber Ancient Blue Bright Broken Burning Cold Crimson Crooked Dark Distant Early Empty Endless Fading Fallen First
        Foreign Forgotten Frozen Gentle Glass Golden Green Hidden Hollow Hungry Iron Last Late Little Lonely Long Lost Modern
        Narrow Painted Paper Quiet Restless Rising Sacred Second Secret Silent Silver Sleeping Stolen Velvet Winter
        """);

    private static readonly string[] Nouns = Words(
        """
        Afternoon Angel Apple Bell Bird Bridge Candle Castle Circus Clock Crown Desert Door Dream Engine Feather Fire Forest
        Garden Ghost Harbour House Island Journey Key Kingdom Ladder Lake Letter Lighthouse Machine Map Mirror Mountain Ocean
        Orchard Promise Queen Rain River Road Rose Shadow Ship Song Star Stone Storm Tower Window
        """);

    private static readonly string[] SurnameEndings = Words(
        "aro berg den dez ek elli enko ero esco feld gren holm ides ikov ini insky lund mann mond ova quist rano ridge sen vak well wick");

    private static readonly string[] CityEndings = Words("burg bury ford grad haven minster mouth port stad ville");

    private static readonly string[] CompanyEndings = Words("corp data dyne gen lux onics soft tek trix ware");

    // Of names that no world has and no editor was trained on: no syllable, ending or word above is among them.
    private static readonly string[] UnseenFirstNames = Words(
        """
        Agnes Boris Chloe Dmitri Edith Farid Gustav Hilda Igor Jasmin Klaus Lydia Noor Otto Priya Quentin Rania Sven Tilda Umar Wanda Xenia Zoran
        """);

    private static readonly string[] UnseenStarts = Words(
        """
        Bri Che Dru Fli Gru Hwi Jou Kwe Lyu Mbo Nye Pho Rhu Shu Thi Tsu Voi Wri Xau Zhe
        """);

    private static readonly string[] UnseenAdjectives = Words(
        """
        Bitter Copper Curious Drowned Eager Faithful Humble Ivory Jealous Lazy Noble Patient Purple Rusty Savage Tender Timid Vast Wicked Young
        """);

    private static readonly string[] UnseenNouns = Words(
        """
        Anchor Barrel Canyon Dagger Ember Fountain Glove Hammer Idol Jungle Knight Lantern Meadow Needle Oracle Pillow Quarry Ribbon Saddle Temple
        """);

    private static readonly string[] UnseenSurnameEndings = Words("bert chuk dal fax gai ham kin lach moto nell oux puri roth stein tani vich wald yama zio");

    private static readonly string[] UnseenCityEndings = Words("abad chester gorod hurst polis pur stan thorpe ton");

    private static readonly string[] UnseenCompanyEndings = Words("bank bot cell graph labs mart net pharm works");

    private readonly Queue<string> _surnames = Compounds(rng, isLonger, SurnameEndings);

    private readonly Queue<string> _cities = Compounds(rng, isLonger, CityEndings);

    private readonly Queue<string> _clubs = Compounds(rng, isLonger, Words("ania edo eria ica oria una"));

    private readonly Queue<string> _companies = Compounds(rng, isLonger, CompanyEndings);

    public static IReadOnlyList<Country> Countries { get; } =
    [
        new("the UK", "London", "pound", "English", true, "Theresa May"),
        new("India", "New Delhi", "rupee", "Hindi", true, "Narendra Modi"),
        new("Mexico", "Mexico City", "peso", "Spanish", false),
        new("the USA", "Washington", "dollar", "English", false),
        new("France", "Paris", "euro", "French", false),
        new("Germany", "Berlin", "euro", "German", false),
        new("Italy", "Rome", "euro", "Italian", true),
        new("Spain", "Madrid", "euro", "Spanish", true),
        new("Portugal", "Lisbon", "euro", "Portuguese", true),
        new("Poland", "Warsaw", "zloty", "Polish", true),
        new("Sweden", "Stockholm", "krona", "Swedish", true),
        new("Norway", "Oslo", "krone", "Norwegian", true),
        new("Denmark", "Copenhagen", "krone", "Danish", true),
        new("Finland", "Helsinki", "euro", "Finnish", false),
        new("Iceland", "Reykjavik", "krona", "Icelandic", true),
        new("Ireland", "Dublin", "euro", "Irish", true),
        new("Greece", "Athens", "euro", "Greek", true),
        new("Hungary", "Budapest", "forint", "Hungarian", true),
        new("Romania", "Bucharest", "leu", "Romanian", false),
        new("Bulgaria", "Sofia", "lev", "Bulgarian", true),
        new("Serbia", "Belgrade", "dinar", "Serbian", false),
        new("Croatia", "Zagreb", "euro", "Croatian", true),
        new("Czechia", "Prague", "koruna", "Czech", true),
        new("Slovakia", "Bratislava", "euro", "Slovak", true),
        new("Slovenia", "Ljubljana", "euro", "Slovene", true),
        new("Austria", "Vienna", "euro", "German", false),
        new("Switzerland", "Bern", "franc", "German", false),
        new("the Netherlands", "Amsterdam", "euro", "Dutch", true),
        new("Belgium", "Brussels", "euro", "Dutch", true),
        new("Estonia", "Tallinn", "euro", "Estonian", true),
        new("Latvia", "Riga", "euro", "Latvian", true),
        new("Lithuania", "Vilnius", "euro", "Lithuanian", false),
        new("Albania", "Tirana", "lek", "Albanian", true),
        new("Ukraine", "Kyiv", "hryvnia", "Ukrainian", false),
        new("Turkey", "Ankara", "lira", "Turkish", false),
        new("Georgia", "Tbilisi", "lari", "Georgian", true),
        new("Armenia", "Yerevan", "dram", "Armenian", true),
        new("Egypt", "Cairo", "pound", "Arabic", false),
        new("Morocco", "Rabat", "dirham", "Arabic", true),
        new("Algeria", "Algiers", "dinar", "Arabic", false),
        new("Tunisia", "Tunis", "dinar", "Arabic", false),
        new("Jordan", "Amman", "dinar", "Arabic", true),
        new("Lebanon", "Beirut", "pound", "Arabic", true),
        new("Iraq", "Baghdad", "dinar", "Arabic", true),
        new("Iran", "Tehran", "rial", "Persian", false),
        new("Ethiopia", "Addis Ababa", "birr", "Amharic", true),
        new("Kenya", "Nairobi", "shilling", "Swahili", false),
        new("Tanzania", "Dodoma", "shilling", "Swahili", false),
        new("Uganda", "Kampala", "shilling", "English", false),
        new("Nigeria", "Abuja", "naira", "English", false),
        new("Ghana", "Accra", "cedi", "English", false),
        new("Senegal", "Dakar", "franc", "French", false),
        new("Angola", "Luanda", "kwanza", "Portuguese", false),
        new("Zambia", "Lusaka", "kwacha", "English", false),
        new("Botswana", "Gaborone", "pula", "Tswana", false),
        new("Namibia", "Windhoek", "dollar", "English", false),
        new("Madagascar", "Antananarivo", "ariary", "Malagasy", false),
        new("Somalia", "Mogadishu", "shilling", "Somali", false),
        new("Brazil", "Brasilia", "real", "Portuguese", false),
        new("Argentina", "Buenos Aires", "peso", "Spanish", false),
        new("Chile", "Santiago", "peso", "Spanish", false),
        new("Peru", "Lima", "sol", "Spanish", false),
        new("Colombia", "Bogota", "peso", "Spanish", false),
        new("Ecuador", "Quito", "dollar", "Spanish", false),
        new("Bolivia", "Sucre", "boliviano", "Quechua", false),
        new("Paraguay", "Asuncion", "guarani", "Guarani", false),
        new("Uruguay", "Montevideo", "peso", "Spanish", false),
        new("Cuba", "Havana", "peso", "Spanish", false),
        new("Honduras", "Tegucigalpa", "lempira", "Spanish", false),
        new("Jamaica", "Kingston", "dollar", "English", true),
        new("Canada", "Ottawa", "dollar", "English", true),
        new("Japan", "Tokyo", "yen", "Japanese", true),
        new("China", "Beijing", "yuan", "Mandarin", false),
        new("South Korea", "Seoul", "won", "Korean", false),
        new("Vietnam", "Hanoi", "dong", "Vietnamese", true),
        new("Thailand", "Bangkok", "baht", "Thai", true),
        new("Cambodia", "Phnom Penh", "riel", "Khmer", true),
        new("Laos", "Vientiane", "kip", "Lao", true),
        new("Malaysia", "Kuala Lumpur", "ringgit", "Malay", true),
        new("Indonesia", "Jakarta", "rupiah", "Indonesian", false),
        new("the Philippines", "Manila", "peso", "Filipino", false),
        new("Nepal", "Kathmandu", "rupee", "Nepali", true),
        new("Bangladesh", "Dhaka", "taka", "Bengali", true),
        new("Pakistan", "Islamabad", "rupee", "Urdu", true),
        new("Mongolia", "Ulaanbaatar", "tugrik", "Mongolian", false),
        new("Kazakhstan", "Astana", "tenge", "Kazakh", false),
        new("Australia", "Canberra", "dollar", "English", true),
        new("New Zealand", "Wellington", "dollar", "English", true),
    ];

    /// <summary>A longer name, drawn without memory of those before: in far less time than a whole stock of them is made.</summary>
    public static string LongName(SubjectKind kind, Prng rng) => kind switch
    {
        SubjectKind.Person => $"{rng.Pick(FirstNames)} {Compound(Starts, SurnameEndings, rng)}",
        SubjectKind.Book => $"The {rng.Pick(Adjectives)} {rng.Pick(Adjectives)} {rng.Pick(Nouns)}",
        SubjectKind.Company => Compound(Starts, CompanyEndings, rng),
        _ => Compound(Starts, CityEndings, rng),
    };

    /// <summary>A name of another generator: all that it is made of is in no other name.</summary>
    public static string UnseenName(SubjectKind kind, Prng rng) => kind switch
    {
        SubjectKind.Person => $"{rng.Pick(UnseenFirstNames)} {Compound(UnseenStarts, UnseenSurnameEndings, rng)}",
        SubjectKind.Book => $"The {rng.Pick(UnseenAdjectives)} {rng.Pick(UnseenNouns)}",
        SubjectKind.Company => Compound(UnseenStarts, UnseenCompanyEndings, rng),
        _ => Compound(UnseenStarts, UnseenCityEndings, rng),
    };

    private static string Compound(string[] starts, string[] endings, Prng rng) =>
        $"{rng.Pick(starts)}{rng.Pick(starts).ToLowerInvariant()}{rng.Pick(endings)}";

    public string Of(SubjectKind kind) => kind switch
    {
        SubjectKind.Person => Person(),
        SubjectKind.Book => Books(1)[0],
        SubjectKind.Company => Company(),
        _ => City(),
    };

    public string Person() => $"{rng.Pick(FirstNames)} {_surnames.Dequeue()}";

    public string City() => _cities.Dequeue();

    public string Club() => $"{_clubs.Dequeue()} {rng.Pick(["Athletic", "Dynamo", "Rovers", "Stars", "United", "Wanderers"])}";

    public string Company() => _companies.Dequeue();

    /// <summary>Titles, at most twice as many as there are nouns. Each word is in as few of them as can be.</summary>
    public string[] Books(int count)
    {
        var adjectives = rng.Shuffle(isLonger
            ? Adjectives.SelectMany(first => Adjectives.Where(second => second != first).Select(second => $"{first} {second}"))
            : Adjectives);
        var nouns = rng.Shuffle(Nouns);
        // The second round pairs each adjective with its neighbour's noun, so no pair comes twice.
        return [.. Enumerable.Range(0, count).Select(i =>
            $"The {adjectives[i % adjectives.Length]} {nouns[(i + i / nouns.Length) % nouns.Length]}")];
    }

    private static Queue<string> Compounds(Prng rng, bool isLonger, string[] endings)
    {
        IEnumerable<string> Of(IEnumerable<string> starts) =>
            starts.SelectMany(start => endings.Select(ending => start + ending)).Distinct();
        return new(rng.Shuffle(isLonger ? Of(Starts.SelectMany(first => Starts.Select(second => first + second.ToLowerInvariant())))
            : Of(Starts)));
    }

    private static string[] Words(string text) => text.Split((char[]?)null, StringSplitOptions.RemoveEmptyEntries);
}
