# Compiles C# as Windows PowerShell 5.1 does: C# 5, warning level 4, warnings are errors. Prints what is wrong.
param([Parameter(Mandatory = $true)] [string] $Path)
$ErrorActionPreference = 'Stop'
# Loads the compiler.
Add-Type -TypeDefinition 'public class Nothing {}'
$source = [IO.File]::ReadAllText($Path)
$metadata = foreach ($file in ([string] [AppContext]::GetData('TRUSTED_PLATFORM_ASSEMBLIES')).Split(':')) {
    [Microsoft.CodeAnalysis.MetadataReference]::CreateFromFile($file)
}
$tree = [Microsoft.CodeAnalysis.CSharp.CSharpSyntaxTree]::ParseText(
    $source, [Microsoft.CodeAnalysis.CSharp.CSharpParseOptions]::new('CSharp5'))
$options = [Microsoft.CodeAnalysis.CSharp.CSharpCompilationOptions]::new(
    [Microsoft.CodeAnalysis.OutputKind]::DynamicallyLinkedLibrary).WithWarningLevel(4).WithGeneralDiagnosticOption(
    [Microsoft.CodeAnalysis.ReportDiagnostic]::Error)
$compilation = [Microsoft.CodeAnalysis.CSharp.CSharpCompilation]::Create(
    'checked',
    [Microsoft.CodeAnalysis.SyntaxTree[]] @($tree),
    [Microsoft.CodeAnalysis.MetadataReference[]] $metadata,
    $options)
$compilation.GetDiagnostics() | Where-Object { $_.Severity -eq 'Error' } | ForEach-Object { $_.ToString() }
